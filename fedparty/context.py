"""What a component sees of the world, and the implementation that needs no service.

Owns the `Context` interface, the rules for its arguments, and `run_in_process`: every member of a job as a thread of
this process (``work_mode`` 0, unit tests of components). Does not own the implementation between parties: that is
`fedparty.worker.context`. Both pass the same tests.
"""

from __future__ import annotations

import inspect
import logging
import re
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from fedparty.errors import ComponentError, FedpartyError, JobError
from fedparty.rpc.encoding import Encoded, decode_msgpack, encode
from fedparty.storage.table import Table
from fedparty.types import Member

Peer = str | Member
"""Whom a component means: a role (``"host"``: every other member with it), ``"host:9999"``, or a `Member`."""

OUTPUT_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")
MAX_OUTPUT_NAME = 400


class Context(Protocol):
    """What one member of a task may use.

    **Constraints** All calls come from the component's own thread. A value is ``bytes``, a NumPy array, or a structure
    of None, booleans, numbers, text, lists and dictionaries, with arrays in it if need be; never an arbitrary object.
    """

    @property
    def member(self) -> Member:
        """Who this is."""

    @property
    def members(self) -> tuple[Member, ...]:
        """All members of the task, this one too, in the job's order."""

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The parameters of this role."""

    @property
    def log(self) -> logging.Logger:
        """The task's log."""

    @property
    def role(self) -> str:
        """The role of `member`."""

    @property
    def party(self) -> str:
        """The party of `member`."""

    def send(self, tag: str, value: Any, to: Peer) -> None:
        """Send a value.

        Parameters
        ----------
        tag
            What the value is, e.g. ``"share.3"``; one value for each tag and receiver.
        value
            The value. It must not be changed afterwards: the sending may go on in the background.
        to
            The receiver; a role means every other member that has it.

        Raises
        ------
        ComponentError
            Nobody is called `to`, or the value has no form on the wire.
        RpcError
            This or an earlier value could not be delivered.
        """

    def receive(self, tag: str, source: Peer, *, timeout_s: float | None = None) -> Any:
        """Wait for a value; it stays there and may be received again.

        Parameters
        ----------
        tag, source
            What was sent, by whom.
        timeout_s
            How long to wait at most; the task's own limit holds anyway.

        Returns
        -------
        The value, or, where `source` is a role that several others have, the list of theirs in the order of `members`.
        It is the receiver's own: an array may be changed.

        Raises
        ------
        ReceiveTimeoutError
            It did not come in time.
        RpcError
            It cannot come any more.
        """

    def metric(self, name: str, value: float, step: int | None = None) -> None:
        """Record a figure, e.g. the loss of a round."""

    def table(self, name: str) -> Table:
        """Return a table of this site: one that the task's parameters name, as ``table`` or in ``tables``.

        Raises
        ------
        ComponentError
            The parameters do not name it.
        ConfigurationError
            Its file has changed since it was bound, or cannot be read.
        """

    def output(self, name: str) -> Path:
        """Return where to write a file that this party's people can download; its folder is there.

        Parameters
        ----------
        name
            A file name, or a path below the task's outputs: letters, digits, ``.``, ``_``, ``-``, and ``/`` between.

        Raises
        ------
        ComponentError
            It is no such name.
        """


class ReceiveTimeoutError(JobError):
    """A value that did not come in time.

    Parameters
    ----------
    tag, source
        What was waited for, from whom.
    message
        Says both, and more if more is known.
    """

    def __init__(self, tag: str, source: Member, message: str = "") -> None:
        super().__init__(
            message or f"waiting for tag {tag!r} from {source}: nothing came in time",
            hint=f"Look at what {source} was doing: the log of its task at party {source.party}.",
        )


@dataclass(frozen=True)
class Metric:
    """One recorded figure."""

    name: str
    value: float
    step: int | None


def role_method(component: type, role: str) -> Callable[[Any, Context], Any]:
    """Return the method of a component that plays `role`.

    Raises
    ------
    ComponentError
        The component has no such role; those that it has are named.
    """
    roles = roles_of(component)
    if role not in roles:
        raise ComponentError(
            f"{component.__name__} has no role {role!r}", hint=f"It has {', '.join(roles) or 'no roles at all'}."
        )
    method: Callable[[Any, Context], Any] = getattr(component, role)
    return method


def roles_of(component: type) -> tuple[str, ...]:
    """Return the roles of a component: the names of its public methods."""
    methods = inspect.getmembers(component, inspect.isfunction)
    return tuple(name for name, _ in methods if not name.startswith("_"))


def peers(context: Context, wanted: Peer) -> list[Member]:
    """Return the members that `wanted` means to this member.

    Raises
    ------
    ComponentError
        It means nobody, or this member itself.
    """
    others = [member for member in context.members if member != context.member]
    found = [member for member in others if wanted in (member, member.role, str(member))]
    if not found:
        raise ComponentError(
            f"{context.member}: nobody else is {str(wanted)!r}",
            hint=f"The others of this task are {', '.join(map(str, others)) or 'none'}.",
        )
    return found


def is_group(context: Context, wanted: Peer) -> bool:
    """Return whether `wanted` means several members, whose values are received as a list."""
    return isinstance(wanted, str) and ":" not in wanted and len(peers(context, wanted)) > 1


def table_of(tables: Mapping[str, Any], name: str) -> Any:
    """Return what `tables` has for a name.

    Raises
    ------
    ComponentError
        It has nothing.
    """
    if name not in tables:
        raise ComponentError(
            f"the task may not read a table {name!r}",
            hint=f"It may read {', '.join(tables) or 'none'}: what its parameters name as 'table' or in 'tables'.",
        )
    return tables[name]


def output_path(folder: Path, name: str) -> Path:
    """Return where an output lies below a folder, which is made.

    Raises
    ------
    ComponentError
        The name is none.
    """
    if not OUTPUT_NAME.fullmatch(name) or len(name) > MAX_OUTPUT_NAME:
        raise ComponentError(
            f"{name[:60]!r} is no name for an output",
            hint="Use letters, digits, '.', '_', '-', with '/' between; no part begins with '.'.",
        )
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def failure(component: str, member: Member, exc: BaseException) -> JobError:
    """Return how the failure of a member is told: which component, who, what."""
    what = str(exc) if isinstance(exc, FedpartyError) else f"{type(exc).__name__}: {exc}"
    return JobError(f"{component} ({member}): {what}", hint=getattr(exc, "hint", ""))


@dataclass
class _Exchange:
    """The mailbox of `run_in_process`."""

    deadline: float
    objects: dict[tuple[str, Member, Member], Encoded] = field(default_factory=dict)
    changed: threading.Condition = field(default_factory=threading.Condition)
    failed: Member | None = None

    def put(self, tag: str, sender: Member, receiver: Member, value: Encoded) -> None:
        with self.changed:
            known = self.objects.setdefault((tag, sender, receiver), value)
            self.changed.notify_all()
        if known is not value and known != value:
            raise ComponentError(
                f"{sender}: tag {tag!r} was sent to {receiver} before, with another value",
                hint="Give every value a tag of its own.",
            )

    def get(self, tag: str, sender: Member, receiver: Member, timeout_s: float | None) -> Encoded:
        limit = min(self.deadline, time.monotonic() + timeout_s if timeout_s is not None else self.deadline)
        key = (tag, sender, receiver)
        with self.changed:
            self.changed.wait_for(lambda: key in self.objects or self.failed, max(0.0, limit - time.monotonic()))
            if key in self.objects:
                return self.objects[key]
        if self.failed:
            raise JobError(f"given up, for {self.failed} failed")
        raise ReceiveTimeoutError(tag, sender)

    def fail(self, member: Member) -> None:
        with self.changed:
            self.failed = self.failed or member
            self.changed.notify_all()


def _decode(encoded: Encoded) -> Any:
    if encoded.encoding == "ndarray":
        return np.frombuffer(encoded.data, encoded.dtype).reshape(encoded.shape).copy()
    data = bytes(encoded.data)
    return data if encoded.encoding == "bytes" else decode_msgpack(data)


class InProcessContext:
    """A member that is a thread; see `Context`. Made by `run_in_process`."""

    def __init__(
        self,
        member: Member,
        members: tuple[Member, ...],
        parameters: Mapping[str, Any],
        exchange: _Exchange,
        tables: Mapping[str, Table],
        folder: Path,
    ) -> None:
        self.member = member
        self.members = members
        self.role = member.role
        self.party = str(member.party)
        self.parameters = parameters
        self.log = logging.Logger(str(member))
        self.metrics: list[Metric] = []
        self._exchange = exchange
        self._tables = tables
        self._folder = folder

    def send(self, tag: str, value: Any, to: Peer) -> None:
        """See `Context.send`."""
        encoded = encode(value)
        for receiver in peers(self, to):
            self._exchange.put(tag, self.member, receiver, encoded)

    def receive(self, tag: str, source: Peer, *, timeout_s: float | None = None) -> Any:
        """See `Context.receive`."""
        values = [_decode(self._exchange.get(tag, sender, self.member, timeout_s)) for sender in peers(self, source)]
        return values if is_group(self, source) else values[0]

    def metric(self, name: str, value: float, step: int | None = None) -> None:
        """See `Context.metric`."""
        self.metrics.append(Metric(name, value, step))

    def table(self, name: str) -> Table:
        """See `Context.table`."""
        table: Table = table_of(self._tables, name)
        return table

    def output(self, name: str) -> Path:
        """See `Context.output`."""
        return output_path(self._folder, name)


def run_in_process(
    component: type,
    name: str,
    members: Sequence[Member],
    parameters: Mapping[str, Any] | None = None,
    *,
    tables: Mapping[Member, Mapping[str, Table]] | None = None,
    outputs: Path | None = None,
    timeout_s: float = 60.0,
    log_handler: Callable[[Member], logging.Handler] | None = None,
) -> dict[Member, Any]:
    """Run a task with all its members in this process, each as a thread.

    Parameters
    ----------
    component, name
        The component's class, and its name for messages.
    members
        Who takes part, e.g. a guest and a host.
    parameters
        The same for all.
    tables
        What each member may read, by name.
    outputs
        Where outputs go, a folder each member; None: they are thrown away.
    timeout_s
        Limit for the whole task.
    log_handler
        Makes the handler of one member's log; None: nothing is logged.

    Returns
    -------
    What each member's method returned.

    Raises
    ------
    JobError
        A member failed: the first that did is named, its exception is the cause.
    """
    exchange = _Exchange(time.monotonic() + timeout_s)
    results: dict[Member, Any] = {}
    failures: list[tuple[Member, BaseException]] = []

    def play(context: InProcessContext) -> None:
        try:
            results[context.member] = role_method(component, context.role)(component(), context)
        except Exception as exc:  # noqa: BLE001  (the boundary of a member: whatever it is, it fails the task)
            failures.append((context.member, exc))
            exchange.fail(context.member)

    with tempfile.TemporaryDirectory() as scratch:
        threads = []
        for member in members:
            folder = (outputs or Path(scratch)) / f"{member.role}-{member.party}"
            given = (tables or {}).get(member, {})
            context = InProcessContext(member, tuple(members), parameters or {}, exchange, given, folder)
            context.log.addHandler(log_handler(member) if log_handler else logging.NullHandler())
            threads.append(threading.Thread(target=play, args=(context,), name=str(member), daemon=True))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    if failures:
        member, exc = failures[0]
        raise failure(name, member, exc) from exc
    return results
