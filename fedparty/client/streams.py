"""What a job's roles log and record, as it comes, of this party's own or of those that another party shows.

Owns reading the stream and going on where it broke off. Does not own the connection (`fedparty.client.session`).
"""

from __future__ import annotations

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any

from fedparty.client import failures
from fedparty.client.http import httpx
from fedparty.client.status import JobStatus
from fedparty.errors import RpcError

ANSWER_S = 30.0
"""How long an answer is waited for."""

RESTARTING = frozenset({"FLOW_DOWN", "CONNECTION_LOST", "SHUTTING_DOWN"})
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

    def _follow(
        self, kind: str, job: str, role: str | None, party: str | None, *, follow: bool
    ) -> Iterator[dict[str, Any]]:
        read: dict[str, int] = {}
        params: dict[str, Any] = {"follow": str(follow).lower(), "positions": "true"}
        params |= {key: value for key, value in (("role", role), ("party", party)) if value}
        broken_at = None
        while True:
            try:
                for line in self._stream(f"/v1/jobs/{job}/{kind}", params, read, is_patient=follow):
                    broken_at = None
                    if line.keys() == _PLACE:
                        read[line["log"]] = line["offset"]
                    else:
                        yield line
                if not follow or self.job(job).is_final:
                    return
            except RpcError as exc:
                broken_at = broken_at or time.monotonic()
                if exc.code not in RESTARTING or time.monotonic() - broken_at >= self._patience_s:
                    raise
            time.sleep(_BACKOFF_S)  # the flow is being restarted

    def _stream(
        self, path: str, params: Mapping[str, Any], read: Mapping[str, int], *, is_patient: bool
    ) -> Iterator[dict[str, Any]]:
        """Yield lines after what was read of each log, and lines that say how far it was."""
        offsets = [f"{log}:{offset}" for log, offset in read.items()]
        timeout = httpx.Timeout(ANSWER_S, read=None if is_patient else ANSWER_S)
        with (
            failures.translated(self.address),
            self._client.stream("GET", path, params={**params, "offset": offsets}, timeout=timeout) as response,
        ):
            if not response.is_success:
                response.read()
            failures.check(response, self.address)
            for text in response.iter_lines():
                line = _line(text)
                if line.keys() == _ERROR:
                    raise RpcError(line["error"], hint=line["hint"], code=line["code"])
                yield line


def _line(text: str) -> dict[str, Any]:
    try:
        line = json.loads(text)
    except ValueError:
        return {"message": text}
    return line if isinstance(line, dict) else {"message": text}
