"""A session with one party's flow, over its Unix socket or over HTTPS with the federation's CA pinned.

Owns the calls. Does not own what a job means, nor printing.
"""

from __future__ import annotations

import json
import os
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx

from fedparty.client import failures, status
from fedparty.client.status import JobStatus, PartyStatus, Pong
from fedparty.crypto.files import read_secret
from fedparty.errors import ConfigurationError, JobError, RpcError
from fedparty.types import Secret

_SOCKET = "flow-rest.sock"
_WAIT_S = 30.0
_ANSWER_S = 30.0
_BACKOFF_S, _MAX_BACKOFF_S = 0.05, 1.0
_RESTARTING = frozenset({"FLOW_DOWN", "CONNECTION_LOST", "SHUTTING_DOWN"})


class Session:
    """Calls to one party.

    Parameters
    ----------
    address
        ``unix:run/flow-rest.sock`` or ``https://host:port``.
    token
        The party's API token.
    ca_certificate
        The federation's CA, PEM: the only one that is trusted; needed for HTTPS.
    patience_s
        How long `wait` bears a flow that is being restarted.

    Raises
    ------
    ConfigurationError
        The address is neither of the two, or HTTPS comes without a CA.
    """

    def __init__(
        self, address: str, token: Secret, *, ca_certificate: Path | None = None, patience_s: float = 30.0
    ) -> None:
        self.address = address
        self._patience_s = patience_s
        base_url, transport = _transport(address, ca_certificate)
        self._client = httpx.Client(
            base_url=base_url,
            transport=transport,
            headers={"authorization": f"Bearer {token.reveal()}"},
            timeout=_ANSWER_S,
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

    def submit(self, description: Mapping[str, Any]) -> JobStatus:
        """Submit a job.

        Raises
        ------
        FedpartyError
            The description is wrong, the token is refused, or the flow is not reached.
        """
        return status.job_from(self._call("POST", "/v1/jobs", json=description))

    def job(self, job: str) -> JobStatus:
        """Return a job as it is now.

        Raises
        ------
        FedpartyError
            There is no such job, the token is refused, or the flow is not reached.
        """
        return status.job_from(self._call("GET", f"/v1/jobs/{job}"))

    def jobs(self, limit: int = 100) -> tuple[JobStatus, ...]:
        """Return the newest jobs, newest first, without their tasks."""
        return tuple(status.job_from(each) for each in self._call("GET", "/v1/jobs", params={"limit": limit})["jobs"])

    def wait(
        self, job: str, timeout_s: float | None = None, on_change: Callable[[JobStatus], None] | None = None
    ) -> JobStatus:
        """Return a job once it has ended; a flow that is restarted meanwhile is waited for.

        Parameters
        ----------
        timeout_s
            How long; None: the job has a limit of its own.
        on_change
            Called with each state that was seen.

        Raises
        ------
        JobError
            It has not ended in time; it goes on.
        FedpartyError
            There is no such job, the token is refused, or the flow is not reached.
        """
        deadline = time.monotonic() + timeout_s if timeout_s is not None else None
        now = self._patiently(lambda: self.job(job))
        while True:
            if on_change is not None:
                on_change(now)
            if now.is_final:
                return now
            now = self._changed(now, deadline)

    def stop(self, job: str) -> JobStatus:
        """Stop a job, and return it."""
        return status.job_from(self._call("POST", f"/v1/jobs/{job}/stop"))

    def logs(self, job: str, role: str | None = None, *, follow: bool = False) -> Iterator[dict[str, Any]]:
        """Yield the log lines of this party's own roles; with `follow` until the job has ended.

        Raises
        ------
        FedpartyError
            There is no such job or role here, the token is refused, or the flow is not reached.
        """
        params = {"follow": str(follow).lower()} | ({"role": role} if role else {})
        timeout = httpx.Timeout(_ANSWER_S, read=None if follow else _ANSWER_S)
        with (
            failures.translated(self.address),
            self._client.stream("GET", f"/v1/jobs/{job}/logs", params=params, timeout=timeout) as response,
        ):
            if not response.is_success:
                response.read()
            failures.check(response, self.address)
            for line in response.iter_lines():
                yield _line(line)

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

    def _changed(self, known: JobStatus, deadline: float | None) -> JobStatus:
        """Return a job once its state differs from the known one."""
        while True:
            left_s = _WAIT_S if deadline is None else min(_WAIT_S, deadline - time.monotonic())
            if left_s <= 0:
                raise JobError(
                    f"job {known.id} is still {known.state} and goes on",
                    hint="Wait longer, look at its logs, or stop it.",
                )
            params = {"wait_s": left_s, "known_state": known.state}
            now = self._patiently(lambda params=params: self._show(known.id, params))  # type: ignore[misc]
            if now.state != known.state or now.is_final:
                return now

    def _show(self, job: str, params: Mapping[str, Any]) -> JobStatus:
        timeout = httpx.Timeout(_ANSWER_S, read=_ANSWER_S + _WAIT_S)
        return status.job_from(self._call("GET", f"/v1/jobs/{job}", params=params, timeout=timeout))

    def _patiently(self, call: Callable[[], JobStatus]) -> JobStatus:
        """Repeat a reading call while the flow is being restarted."""
        deadline, backoff_s = time.monotonic() + self._patience_s, _BACKOFF_S
        while True:
            try:
                return call()
            except RpcError as exc:
                if exc.code not in _RESTARTING or time.monotonic() >= deadline:
                    raise
            time.sleep(backoff_s)
            backoff_s = min(2 * backoff_s, _MAX_BACKOFF_S)

    def _call(self, method: str, path: str, **options: Any) -> Any:
        with failures.translated(self.address):
            response = self._client.request(method, path, **options)
        failures.check(response, self.address)
        return response.json()


def _transport(address: str, ca_certificate: Path | None) -> tuple[str, httpx.HTTPTransport]:
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
        context = ssl.create_default_context(cafile=str(ca_certificate))
    except (OSError, ssl.SSLError) as exc:
        raise ConfigurationError(
            f"{ca_certificate}: no certificate can be read: {exc}", hint="Give the file ca/ca.crt of the bundle."
        ) from exc
    return address, httpx.HTTPTransport(verify=context)


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


def _line(text: str) -> dict[str, Any]:
    try:
        line = json.loads(text)
    except ValueError:
        return {"message": text}
    return line if isinstance(line, dict) else {"message": text}
