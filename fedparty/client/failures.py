"""What goes wrong between a client and its party, as errors that a person can act on.

Owns the one translation from httpx and from HTTP answers.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fedparty.client.http import httpx
from fedparty.errors import CertificateError, FedpartyError, JobError, RpcError, TokenError

_LOOK = "Look at the party's flow service: deploy.py status."


@contextmanager
def translated(address: str) -> Iterator[None]:
    """Raise what httpx raises in a block as errors that name the address.

    Raises
    ------
    CertificateError
        The other end does not show a certificate of the pinned CA for this address.
    RpcError
        FLOW_DOWN: nobody answers. CONNECTION_LOST, DEADLINE: the answer broke off, or did not come in time.
    """
    try:
        yield
    except httpx.ConnectError as exc:
        if _is_about_certificate(exc):
            hint = "Give the address that is in the certificate, and the CA of this party's federation."
            raise CertificateError(f"{address} does not prove to be this party: {exc}", hint=hint) from exc
        raise flow_down(address, str(exc)) from exc
    except httpx.TimeoutException as exc:
        raise RpcError(f"the flow at {address} did not answer in time", hint=_LOOK, code="DEADLINE") from exc
    except httpx.TransportError as exc:
        message = f"the flow at {address} broke off: {exc or type(exc).__name__}"
        raise RpcError(message, hint=_LOOK, code="CONNECTION_LOST") from exc


def check(response: httpx.Response, address: str) -> None:
    """Make sure that a response, whose body was read, is an answer and no error.

    Raises
    ------
    TokenError
        The token was refused.
    JobError
        The job description was.
    RpcError
        Anything else, with its code.
    """
    if response.is_success:
        return
    error = _error_in(response)
    if error is None:
        raise flow_down(address, f"HTTP {response.status_code}")
    raise _exception_of(response.status_code, *error)


def flow_down(address: str, reason: str) -> RpcError:
    """Return the error of a flow that nobody reaches."""
    return RpcError(f"the flow at {address} does not answer: {reason}", hint=_LOOK, code="FLOW_DOWN")


def _exception_of(status: int, message: str, hint: str, code: str) -> FedpartyError:
    if code == "TOKEN_REFUSED":
        return TokenError(f"the flow refused the request: {message}", hint=hint)
    if status in (400, 413, 422) and code == "BAD_REQUEST":
        return JobError(message, hint=hint)
    return RpcError(message, hint=hint, code=code)


def _error_in(response: httpx.Response) -> tuple[str, str, str] | None:
    try:
        body: Any = response.json()
    except ValueError:
        return None
    if not isinstance(body, dict) or "error" not in body:
        return None
    return str(body["error"]), str(body.get("hint", "")), str(body.get("code", "INTERNAL"))


def _is_about_certificate(exc: BaseException) -> bool:
    cause: BaseException | None = exc
    while cause is not None:
        if isinstance(cause, ssl.SSLError):
            return True
        cause = cause.__cause__ or cause.__context__
    return False
