"""What a job's roles log, record and keep: this party's own, or what another party shows.

Owns reading the stream and going on where it broke off. Does not own the connection (`fedparty.client.session`).
"""

from __future__ import annotations

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from fedparty.client import failures
from fedparty.client.http import httpx
from fedparty.client.status import JobStatus
from fedparty.errors import RpcError

ANSWER_S = 30.0
"""How long an answer is waited for."""

RESTARTING = frozenset({"FLOW_DOWN", "DATABASE_DOWN", "CONNECTION_LOST", "SHUTTING_DOWN"})
"""Codes of errors of a flow that comes back."""

_BACKOFF_S = 0.05
_PLACE = {"log", "offset"}
"""Keys of a line that says how far a log was read."""

_ERROR = {"error", "hint", "code"}
"""Keys of the last line of a stream that could not go on."""


class Streams(ABC):
    """The calls about logs and figures, for `Session`."""

    address: str
    _client: httpx.Client
    _patience_s: float

    @abstractmethod
    def _call(self, method: str, path: str, **options: Any) -> Any:
        """Return the answer to a request."""

    @abstractmethod
    def job(self, job: str) -> JobStatus:
        """Return a job as it is now."""

    def logs(
        self, job: str, role: str | None = None, *, party: str | None = None, follow: bool = False
    ) -> Iterator[dict[str, Any]]:
        """Yield log lines; with `follow` until the job has ended.

        Where the connection breaks, or the flow is restarted, it goes on from where it was.

        Parameters
        ----------
        role
            Only this role's.
        party
            Whose roles; None: this party's own. Another's are shown where its policy does, to the party that submitted
            the job.

        Raises
        ------
        FedpartyError
            There is no such job or role here, the token is refused, or the flow is not reached.
        RpcError
            POLICY_REFUSED: the other party does not show its logs.
        """
        return self._follow("logs", job, role, party, follow=follow)

    def metrics(
        self, job: str, role: str | None = None, *, party: str | None = None, follow: bool = False
    ) -> Iterator[dict[str, Any]]:
        """Yield figures as they were recorded; as `logs`.

        Yields
        ------
        ``time``, ``task``, ``attempt``, ``role``, ``name``, ``value`` and ``step`` (or None).

        Raises
        ------
        FedpartyError
            There is no such job or role here, the token is refused, or the flow or its worker is not reached.
        RpcError
            POLICY_REFUSED: the other party does not show its figures.
        """
        for figure in self._follow("metrics", job, role, party, follow=follow):
            if "name" not in figure:
                raise RpcError(figure["message"], code="CONNECTION_LOST")
            yield figure

    def outputs(self, job: str) -> tuple[dict[str, Any], ...]:
        """Return the files that this party's roles of a job have kept: task, attempt, role, name, size_bytes."""
        return tuple(self._call("GET", f"/v1/jobs/{job}/outputs")["outputs"])

    def read_output(
        self, job: str, task: str, attempt: int, role: str, name: str, *, offset: int = 0
    ) -> Iterator[bytes]:
        """Yield the bytes of one of these files from `offset` on; as `logs` it goes on where it was after a break.

        Raises
        ------
        FedpartyError
            There is no such file, the token is refused, or the flow is not reached.
        """
        params: dict[str, str | int] = {"task": task, "attempt": attempt, "role": role, "name": name}
        patience = _Patience(self._patience_s)
        while True:
            try:
                with self._open(f"/v1/jobs/{job}/outputs/file", params | {"offset": offset}, ANSWER_S) as response:
                    for chunk in response.iter_bytes():
                        patience.renew()
                        offset += len(chunk)
                        yield chunk
                return
            except RpcError as exc:
                patience.bear(exc)

    def _follow(
        self, kind: str, job: str, role: str | None, party: str | None, *, follow: bool
    ) -> Iterator[dict[str, Any]]:
        read: dict[str, int] = {}
        params: dict[str, Any] = {"follow": str(follow).lower(), "positions": "true"}
        params |= {key: value for key, value in (("role", role), ("party", party)) if value}
        patience = _Patience(self._patience_s)
        while True:
            try:
                for line in self._stream(f"/v1/jobs/{job}/{kind}", params, read, is_patient=follow):
                    patience.renew()
                    if line.keys() == _PLACE:
                        read[line["log"]] = line["offset"]
                    else:
                        yield line
                if not follow or self.job(job).is_final:
                    return
                time.sleep(_BACKOFF_S)
            except RpcError as exc:
                patience.bear(exc)

    def _stream(
        self, path: str, params: Mapping[str, Any], read: Mapping[str, int], *, is_patient: bool
    ) -> Iterator[dict[str, Any]]:
        """Yield lines after what was read of each log, and lines that say how far it was."""
        offsets = [f"{log}:{offset}" for log, offset in read.items()]
        with self._open(path, {**params, "offset": offsets}, None if is_patient else ANSWER_S) as response:
            for text in response.iter_lines():
                line = _line(text)
                if line.keys() == _ERROR:
                    raise RpcError(line["error"], hint=line["hint"], code=line["code"])
                yield line

    @contextmanager
    def _open(self, path: str, params: Mapping[str, Any], read_s: float | None) -> Iterator[httpx.Response]:
        """Open a stream, of which each part comes within a time."""
        timeout = httpx.Timeout(ANSWER_S, read=read_s)
        with (
            failures.translated(self.address),
            self._client.stream("GET", path, params=params, timeout=timeout) as response,
        ):
            if not response.is_success:
                response.read()
            failures.check(response, self.address)
            yield response


class _Patience:
    """How long a flow that is being restarted is borne."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._broken_at: float | None = None

    def renew(self) -> None:
        """Begin anew: the flow has answered."""
        self._broken_at = None

    def bear(self, exc: RpcError) -> None:
        """Wait a moment, or raise an error that is of another kind, or comes too long after the last answer."""
        self._broken_at = self._broken_at or time.monotonic()
        if exc.code not in RESTARTING or time.monotonic() - self._broken_at >= self._limit_s:
            raise exc
        time.sleep(_BACKOFF_S)


def _line(text: str) -> dict[str, Any]:
    try:
        line = json.loads(text)
    except ValueError:
        return {"message": text}
    return line if isinstance(line, dict) else {"message": text}
