"""A session with one party's flow, over its Unix socket or over HTTPS with the federation's CA pinned.

Owns the calls. Does not own what a job means, nor printing.
"""

from __future__ import annotations

import json
import math
import os
import re
import secrets
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from fedparty.client import failures, signing, status
from fedparty.client.governance import Governance
from fedparty.client.http import httpx
from fedparty.client.status import JobStatus, PartyStatus, Pong
from fedparty.client.streams import ANSWER_S, RESTARTING, Streams
from fedparty.crypto.files import read_secret
from fedparty.errors import ConfigurationError, JobError, RpcError
from fedparty.types import JOB_ID, Secret

if TYPE_CHECKING:
    from fedparty.jobs.code import Package

_SOCKET = "flow-rest.sock"
_WAIT_S = 30.0
_READING_S = 310.0
_BACKOFF_S, _MAX_BACKOFF_S = 0.05, 1.0
_UNANSWERED_S = 3.0
"""How long a flow is waited for that nobody listens for: it may be starting."""
_ID_PART = re.compile(r"[0-9A-Z-]{1,40}")
_MANY = 10


class Session(Governance, Streams):
    """Calls to one party.

    Parameters
    ----------
    address
        ``unix:run/flow-rest.sock`` or ``https://host:port``.
    token
        The party's API token.
    ca_certificate
        The federation's CA, a file or the PEM itself: the only one that is trusted; needed for HTTPS.
    patience_s
        How long `submit`, `job`, `wait`, `stop`, `logs` and `metrics` bear a flow that is being restarted.

    Raises
    ------
    ConfigurationError
        The address is neither of the two, or HTTPS comes without a CA.
    """

    def __init__(
        self, address: str, token: Secret, *, ca_certificate: Path | str | None = None, patience_s: float = 30.0
    ) -> None:
        self.address = address
        self._patience_s = patience_s
        base_url, transport = _transport(address, ca_certificate)
        self._client = httpx.Client(
            base_url=base_url,
            transport=transport,
            headers={"authorization": f"Bearer {token.reveal()}"},
            timeout=ANSWER_S,
            trust_env=False,
        )

    @classmethod
    def at_home(cls, home: Path) -> Session:
        """Open a session with the party that lives in a folder, as its own person: over its socket, else over HTTPS.

        Raises
        ------
        ConfigurationError
            It is not a party's home, or its token may not be read.
        RpcError
            FLOW_DOWN: the party has neither a socket there nor a REST address.
        """
        bundle = home / "bundle"
        party, url = _read_about(bundle / "bundle.json")
        socket = Path(os.path.realpath(home / "run"), _SOCKET)  # the link behind run keeps the path short
        if not socket.exists() and not url:
            raise RpcError(
                f"party {party} is not running here: its flow does not listen at {home / 'run' / _SOCKET}",
                hint=f"Start it: python deploy.py {party}",
                code="FLOW_DOWN",
            )
        whose = "Only who runs the party may start jobs in it: run this as that user."
        token = read_secret(bundle / "secrets" / "api-token", hint=whose)
        if socket.exists():
            return cls(f"unix:{socket}", token)
        return cls(url, token, ca_certificate=bundle / "ca" / "ca.crt")

    def submit(self, description: Mapping[str, Any], package: Package | None = None) -> JobStatus:
        """Submit a job; a flow that is restarted meanwhile, or hands over to another replica, is waited for.

        The call is repeated under one key, so that it makes one job, also where an answer was lost.

        Parameters
        ----------
        package
            Its own code; it is brought first.

        Raises
        ------
        FedpartyError
            The description is wrong, the token is refused, or the flow is not reached.
        """
        text, key = json.dumps(description).encode(), secrets.token_hex(16)

        def submit() -> JobStatus:
            if package is not None:
                self._call("PUT", f"/v1/code/{package.sha256}", content=package.content, timeout=_READING_S)
            headers = {"content-type": "application/json", "idempotency-key": key} | signing.headers(self, text)
            return status.job_from(self._call("POST", "/v1/jobs", content=text, headers=headers))

        return self._patiently(submit, is_asked=True)

    def job(self, job: str) -> JobStatus:
        """Return a job as it is now; a flow that is restarted meanwhile is waited for.

        Raises
        ------
        FedpartyError
            There is no such job, the token is refused, or the flow is not reached.
        """
        return self._patiently(lambda: self._show(job, {}), is_asked=True)

    def jobs(
        self, limit: int = 100, *, states: Sequence[str] = (), before: str | None = None, match: str = ""
    ) -> tuple[JobStatus, ...]:
        """Return the newest jobs, newest first, without their tasks.

        Parameters
        ----------
        limit
            How many, at most 1000.
        states
            Only those in one of these; none: in any.
        before
            The id of the last job of the page before.
        match
            Only those whose id begins or ends with this.

        Raises
        ------
        FedpartyError
            There is no job `before`, the token is refused, or the flow is not reached.
        """
        params: dict[str, Any] = {"limit": limit, "state": list(states)}
        params |= {key: value for key, value in (("before", before), ("match", match)) if value}
        return tuple(status.job_from(each) for each in self._call("GET", "/v1/jobs", params=params)["jobs"])

    def find(self, words: str) -> str:
        """Return the id of the one job that is meant: by its id, how that begins or ends, or ``-``, the newest.

        Raises
        ------
        JobError
            It is none, or several.
        FedpartyError
            The token is refused, or the flow is not reached.
        """
        if JOB_ID.fullmatch(words):
            return words
        is_newest, part = words == "-", words.upper()
        found = self.jobs(1) if is_newest else self.jobs(_MANY, match=part) if _ID_PART.fullmatch(part) else ()
        if len(found) == 1:
            return found[0].id
        if not found:
            what = "there is no job" if is_newest else f"no job's id begins or ends with {words}"
            raise JobError(what, hint="See which there are: fedparty job list.")
        ids = "\n".join(f"  {job.id}  {job.name}" for job in found)
        raise JobError(f"{words} is the beginning or end of several jobs' ids:\n{ids}", hint="Give more of the id.")

    def description(self, job: str) -> dict[str, Any]:
        """Return what a job is to do, as it was submitted.

        Raises
        ------
        FedpartyError
            There is no such job, the token is refused, or the flow is not reached.
        """
        described: dict[str, Any] = self._call("GET", f"/v1/jobs/{job}/description")
        return described

    def code(self, job: str) -> Package:
        """Return a job's own code.

        Raises
        ------
        FedpartyError
            There is no such job, it has none, the token is refused, or the flow is not reached.
        """
        from fedparty.jobs import code

        with failures.translated(self.address):
            response = self._client.get(f"/v1/jobs/{job}/code", timeout=_READING_S)
        failures.check(response, self.address)
        return code.read(response.content)

    def rerun(self, job: str, from_task: str | None = None) -> JobStatus:
        """Submit a job again: a new one, with the same description.

        Parameters
        ----------
        from_task
            Only this task and all after it run again; what the others left is taken over. None: all run.

        Raises
        ------
        FedpartyError
            There is no such job, the token is refused, or the flow is not reached.
        """
        described = self.description(job)
        described.pop("resume", None)
        return self.submit(described | ({"resume": {"job": job, "task": from_task}} if from_task else {}))

    def delete(self, job: str) -> None:
        """Delete a job that has ended, at this party: what is recorded of it, its logs and its files.

        Raises
        ------
        RpcError
            CONFLICT: it has not ended, or not everybody heard of its end. NOT_KNOWN: there is no such job.
        FedpartyError
            The token is refused, or the flow is not reached.
        """
        self._call("DELETE", f"/v1/jobs/{job}")

    def wait(
        self, job: str, timeout_s: float | None = None, on_change: Callable[[JobStatus], None] | None = None
    ) -> JobStatus:
        """Return a job once it has ended; a flow that is restarted meanwhile is waited for.

        Parameters
        ----------
        timeout_s
            How long; None: the job has a limit of its own.
        on_change
            Called with each state that was seen, of the job or of a task's role.

        Raises
        ------
        JobError
            It has not ended in time; it goes on.
        FedpartyError
            There is no such job, the token is refused, or the flow is not reached.
        """
        deadline = time.monotonic() + timeout_s if timeout_s is not None else None
        now = self._patiently(lambda: self._show(job, {}))
        while True:
            if on_change is not None:
                on_change(now)
            if now.is_final:
                return now
            now = self._changed(now, deadline, with_tasks=on_change is not None)

    def stop(self, job: str) -> JobStatus:
        """Stop a job, and return it; a flow that is restarted meanwhile is waited for."""
        return self._patiently(lambda: status.job_from(self._call("POST", f"/v1/jobs/{job}/stop")), is_asked=True)

    def components(self) -> tuple[dict[str, Any], ...]:
        """Return the components that are installed at the party, without their parameters."""
        return tuple(self._call("GET", "/v1/components")["components"])

    def component(self, name: str) -> dict[str, Any]:
        """Return a component with its parameters.

        Raises
        ------
        FedpartyError
            There is none of this name, the token is refused, or the flow is not reached.
        """
        found: dict[str, Any] = self._call("GET", f"/v1/components/{quote(name, safe='')}")
        return found

    def tables(self) -> tuple[dict[str, Any], ...]:
        """Return the tables that are bound at the party."""
        return tuple(self._call("GET", "/v1/tables")["tables"])

    def table(self, name: str) -> dict[str, Any]:
        """Return a table: its file, its columns, its rows.

        Raises
        ------
        FedpartyError
            There is none of this name, the token is refused, or the flow is not reached.
        """
        found: dict[str, Any] = self._call("GET", f"/v1/tables/{quote(name, safe='')}")
        return found

    def bind_table(self, name: str, path: str, id_column: str | None = None) -> dict[str, Any]:
        """Let a name stand for a CSV or Parquet file at the site, and return the table.

        Parameters
        ----------
        path
            Below the site's folder for tables, or absolute.
        id_column
            The column that identifies a row.

        Raises
        ------
        FedpartyError
            The name or the file cannot be used, the token is refused, or the flow is not reached.
        """
        asked = {"path": path, "id_column": id_column}
        address = f"/v1/tables/{quote(name, safe='')}"
        bound: dict[str, Any] = self._call("PUT", address, json=asked, timeout=_READING_S)
        return bound

    def unbind_table(self, name: str) -> None:
        """Forget a table; its file stays.

        Raises
        ------
        FedpartyError
            There is none of this name, the token is refused, or the flow is not reached.
        """
        with failures.translated(self.address):
            response = self._client.delete(f"/v1/tables/{quote(name, safe='')}")
        failures.check(response, self.address)

    def party(self) -> PartyStatus:
        """Return what this party is and offers."""
        return status.party_from(self._call("GET", "/v1/party"))

    def ping(self, to: str) -> Pong:
        """Ask another party's flow who it is, through both proxies.

        Raises
        ------
        RpcError
            It was not reached; the message says at which hop.
        """
        return status.pong_from(self._call("GET", "/v1/party/ping", params={"to": to}))

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _changed(self, known: JobStatus, deadline: float | None, *, with_tasks: bool) -> JobStatus:
        """Return a job once its state differs from the known one, or with its tasks, one of theirs."""
        version = {"known_version": known.version} if with_tasks else {}
        while True:
            left_s = _WAIT_S if deadline is None else min(_WAIT_S, deadline - time.monotonic())
            if left_s <= 0:
                raise JobError(
                    f"job {known.id} is still {known.state} and goes on",
                    hint="Wait longer, look at its logs, or stop it.",
                )
            params = {"wait_s": left_s, "known_state": known.state, **version}
            now = self._patiently(lambda params=params: self._show(known.id, params))  # type: ignore[misc]
            if now.state != known.state or now.is_final or (with_tasks and now.version != known.version):
                return now

    def _show(self, job: str, params: Mapping[str, Any]) -> JobStatus:
        timeout = httpx.Timeout(ANSWER_S, read=ANSWER_S + params.get("wait_s", 0))
        return status.job_from(self._call("GET", f"/v1/jobs/{job}", params=params, timeout=timeout))

    def _patiently(self, call: Callable[[], JobStatus], *, is_asked: bool = False) -> JobStatus:
        """Repeat a call, which changes what it changes once, while the flow is being restarted.

        Parameters
        ----------
        is_asked
            Whether somebody asks, who hears at once of a database that is away, and soon of a flow that nobody listens
            for, not even a proxy: the party may not run at all. Whoever watches a job bears both.
        """
        began, backoff_s = time.monotonic(), _BACKOFF_S
        while True:
            try:
                return call()
            except RpcError as exc:
                limit_s = min(_limit_s(exc) if is_asked else math.inf, self._patience_s)
                if exc.code not in RESTARTING or time.monotonic() - began >= limit_s:
                    raise
            time.sleep(backoff_s)
            backoff_s = min(2 * backoff_s, _MAX_BACKOFF_S)

    def _call(self, method: str, path: str, **options: Any) -> Any:
        with failures.translated(self.address):
            response = self._client.request(method, path, **options)
        failures.check(response, self.address)
        return response.json() if response.content else None


def _limit_s(exc: RpcError) -> float:
    """Return how long a call is repeated that somebody waits for."""
    if exc.code == "DATABASE_DOWN":
        return 0.0
    return _UNANSWERED_S if isinstance(exc.__cause__, httpx.ConnectError) else math.inf


def _transport(address: str, ca_certificate: Path | str | None) -> tuple[str, httpx.HTTPTransport]:
    if address.startswith("unix:"):
        no_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # else httpx loads every public CA, for nothing
        return "http://flow", httpx.HTTPTransport(uds=address.removeprefix("unix:"), verify=no_tls)
    if not address.startswith("https://"):
        raise ConfigurationError(
            f"{address}: this is no address of a flow", hint="Give unix:PATH or https://HOST:PORT."
        )
    if ca_certificate is None:
        raise ConfigurationError(
            f"{address}: the federation's CA is needed", hint="Give the file ca/ca.crt of the party's bundle."
        )
    try:
        context = _trust_in(ca_certificate)
    except (OSError, ssl.SSLError) as exc:
        where = ca_certificate if isinstance(ca_certificate, Path) else f"the CA for {address}"
        raise ConfigurationError(
            f"{where}: no certificate can be read: {exc}", hint="Give the file ca/ca.crt of the bundle."
        ) from exc
    return address, httpx.HTTPTransport(verify=context)


def _trust_in(ca_certificate: Path | str) -> ssl.SSLContext:
    """Return what trusts one CA alone, given as a file or as the PEM itself."""
    if isinstance(ca_certificate, Path):
        return ssl.create_default_context(cafile=str(ca_certificate))
    return ssl.create_default_context(cadata=ca_certificate)


def _read_about(path: Path) -> tuple[str, str]:
    """Return whose bundle it is, and its REST address, if it has one."""
    try:
        about = json.loads(path.read_bytes())
        return about["party"], about["rest_url"] or ""
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise ConfigurationError(
            f"{path.parents[1]} is not a party's home: {path} cannot be read",
            hint="Give the folder where the party was deployed.",
        ) from exc
