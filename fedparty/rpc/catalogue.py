"""The catalogue of wire errors: every code, its gRPC status, whether trying again may help, and what to do.

Owns the translation between `RpcError` and gRPC (``[CODE] text`` as the status message). Does not own the texts:
whoever fails says what and where. Envoy's own replies use the same codes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NoReturn, cast

import grpc
import grpc.aio

from fedparty.errors import RpcError

HINT_KEY = "fedparty-hint-bin"
"""Trailing metadata with a hint that differs from the catalogue's, UTF-8."""

_CODED = re.compile(r"\[([A-Z][A-Z0-9_]*)\] ?(.*)", re.DOTALL)
# The last one is what grpc.aio says of a write that came after the server's answer, which it then does not tell.
_BROKEN_STREAM = re.compile(
    r"RST_STREAM|GOAWAY|[Ss]ocket closed|[Ss]tream removed|[Cc]onnection reset|Internal error from Core"
)


@dataclass(frozen=True)
class Entry:
    """What a code means.

    Parameters
    ----------
    status
        The gRPC status it travels with.
    is_retryable
        Whether the same call may succeed later.
    hint
        What a person does about it.
    """

    status: grpc.StatusCode
    is_retryable: bool
    hint: str


_S = grpc.StatusCode

CATALOGUE: Mapping[str, Entry] = MappingProxyType(
    {
        # The way to another party
        "UNKNOWN_PARTY": Entry(
            _S.NOT_FOUND,
            False,
            "Add the party to parties.conf, run generate_config.py and deploy.py again.",
        ),
        "WRONG_PARTY": Entry(
            _S.PERMISSION_DENIED,
            False,
            "The party's address in parties.conf leads to another one: correct it, generate and deploy again.",
        ),
        "PEER_UNREACHABLE": Entry(
            _S.UNAVAILABLE,
            True,
            "Check that the party is deployed, and that its address and port are reachable from here.",
        ),
        "PEER_TLS_REFUSED": Entry(
            _S.UNAVAILABLE,
            True,
            "Compare both bundles' fingerprints and the certificates' dates and revocations: fedparty pki list.",
        ),
        "PEER_FLOW_DOWN": Entry(_S.UNAVAILABLE, True, "Ask the party to look at its flow service: deploy.py status."),
        "PEER_MAILBOX_DOWN": Entry(
            _S.UNAVAILABLE, True, "Ask the party to look at its federation service: deploy.py status."
        ),
        "CONNECTION_LOST": Entry(
            _S.UNAVAILABLE, True, "Nothing, if it happens once; else look at the proxies' logs of both parties."
        ),
        "PROTOCOL_MISMATCH": Entry(
            _S.FAILED_PRECONDITION, False, "Both parties must run the same major version: update the older one."
        ),
        "CLOCKS_DIFFER": Entry(
            _S.FAILED_PRECONDITION,
            False,
            "Set the clock that is wrong, on its machine: sudo timedatectl set-ntp true; deploy.py doctor names it.",
        ),
        # Services of this party
        "PROXY_DOWN": Entry(_S.UNAVAILABLE, True, "Look at this party's proxy: deploy.py status."),
        "MAILBOX_DOWN": Entry(_S.UNAVAILABLE, True, "Look at this party's federation service: deploy.py status."),
        "FLOW_DOWN": Entry(_S.UNAVAILABLE, True, "Look at this party's flow service: deploy.py status."),
        "DATABASE_DOWN": Entry(_S.UNAVAILABLE, True, "Look at the database of this party's flow, and at its disk."),
        "WORKER_DOWN": Entry(_S.UNAVAILABLE, True, "Look at this party's worker service: deploy.py status."),
        "SHUTTING_DOWN": Entry(_S.UNAVAILABLE, True, "The service is being restarted: try again."),
        # Who may do what
        "TOKEN_REFUSED": Entry(
            _S.UNAUTHENTICATED,
            False,
            "The token is missing, expired, forged or for something else: check clocks and signing certificate.",
        ),
        "NOT_ALLOWED": Entry(
            _S.PERMISSION_DENIED, False, "The caller has no part in this: look at who calls and for which job."
        ),
        "NOT_THROUGH_PROXY": Entry(
            _S.PERMISSION_DENIED, False, "Other parties' calls must come through this party's own proxy."
        ),
        "NOT_INITIATOR": Entry(_S.PERMISSION_DENIED, False, "Only the party that submitted a job may direct it."),
        "CERTIFICATE_REVOKED": Entry(
            _S.PERMISSION_DENIED, False, "The caller's certificate was revoked: its operator must obtain a new one."
        ),
        "POLICY_REFUSED": Entry(_S.PERMISSION_DENIED, False, "The party's own policy forbids it: ask its operator."),
        "ROLE_TOO_LOW": Entry(
            _S.PERMISSION_DENIED, False, "Ask an admin of the party for a user with a higher role: fedparty user add."
        ),
        "USER_EXISTS": Entry(
            _S.ALREADY_EXISTS, False, "Give another name, or remove that user first: fedparty user remove NAME."
        ),
        # Tasks and attempts
        "NOT_REGISTERED": Entry(
            _S.NOT_FOUND, False, "The task is not prepared at that party: submit the job again if it should be running."
        ),
        "NOT_KNOWN": Entry(_S.NOT_FOUND, False, "Check the identifier: nothing of that name is known."),
        "STALE_ATTEMPT": Entry(
            _S.FAILED_PRECONDITION, False, "A newer attempt of the task has begun: this one must end."
        ),
        "TASK_ENDED": Entry(_S.FAILED_PRECONDITION, False, "The task has ended: submit the job again."),
        "STALE_LEADER": Entry(
            _S.FAILED_PRECONDITION,
            False,
            "Nothing: another replica of that party's flow leads, and goes on with the job.",
        ),
        # Of every resource; the code is older than the others.
        "CORES_TAKEN": Entry(_S.UNAVAILABLE, True, "Wait for other jobs of the party to end."),
        "NOT_ENOUGH_RESOURCES": Entry(
            _S.RESOURCE_EXHAUSTED, False, "Ask for less in the job's tasks, or let the party offer more: parties.conf."
        ),
        # Objects
        "OBJECT_CONFLICT": Entry(
            _S.ALREADY_EXISTS, False, "The component sent two different values with one tag: give each its own."
        ),
        "SPOOL_FULL": Entry(
            _S.RESOURCE_EXHAUSTED,
            False,
            "Free disk space or raise the spool's quota at that party, then submit the job again.",
        ),
        "CHECKSUM_MISMATCH": Entry(
            _S.DATA_LOSS, True, "The bytes were damaged on the way: check the machine's memory and disk."
        ),
        "DELIVERY_BROKEN": Entry(_S.UNAVAILABLE, True, "The sender broke off and will send again: wait."),
        "RECEIVE_TIMEOUT": Entry(
            _S.DEADLINE_EXCEEDED, False, "Look at the log of the role that should have sent it, at its party."
        ),
        # Everything else
        "BAD_REQUEST": Entry(
            _S.INVALID_ARGUMENT, False, "The call is malformed: caller and service may be of different releases."
        ),
        "NOT_SUPPORTED": Entry(
            _S.UNIMPLEMENTED, False, "Caller and service are of different releases: update the older one."
        ),
        "DEADLINE": Entry(
            _S.DEADLINE_EXCEEDED, False, "Give it more time, or look at what the called service is doing."
        ),
        "CANCELED": Entry(_S.CANCELLED, False, "The call was given up by its caller."),
        "CONFLICT": Entry(_S.ABORTED, True, "Another call came between: try again."),
        "OVERLOADED": Entry(_S.RESOURCE_EXHAUSTED, True, "Try again later."),
        "INTERNAL": Entry(_S.INTERNAL, False, "Look at the log of the service that was called, and report it."),
    }
)

BY_STATUS: Mapping[grpc.StatusCode, str] = MappingProxyType(
    {
        _S.OK: "INTERNAL",
        _S.CANCELLED: "CANCELED",
        _S.UNKNOWN: "INTERNAL",
        _S.INVALID_ARGUMENT: "BAD_REQUEST",
        _S.DEADLINE_EXCEEDED: "DEADLINE",
        _S.NOT_FOUND: "NOT_KNOWN",
        _S.ALREADY_EXISTS: "OBJECT_CONFLICT",
        _S.PERMISSION_DENIED: "NOT_ALLOWED",
        _S.RESOURCE_EXHAUSTED: "OVERLOADED",
        _S.FAILED_PRECONDITION: "STALE_ATTEMPT",
        _S.ABORTED: "CONFLICT",
        _S.OUT_OF_RANGE: "BAD_REQUEST",
        _S.UNIMPLEMENTED: "NOT_SUPPORTED",
        _S.INTERNAL: "INTERNAL",
        _S.UNAVAILABLE: "PEER_UNREACHABLE",
        _S.DATA_LOSS: "CHECKSUM_MISMATCH",
        _S.UNAUTHENTICATED: "TOKEN_REFUSED",
    }
)
"""What a status means that arrived without a code."""


def error(code: str, message: str, *, hint: str = "") -> RpcError:
    """Return the error of a code, with the catalogue's hint unless another is given."""
    return RpcError(message, hint=hint or CATALOGUE[code].hint, code=code)


def is_retryable(exc: RpcError) -> bool:
    """Return whether the same call may succeed later; a code this release does not know may not."""
    entry = CATALOGUE.get(exc.code)
    return entry is not None and entry.is_retryable


def from_rpc_error(exc: grpc.aio.AioRpcError, *, unavailable: str = "PEER_UNREACHABLE") -> RpcError:
    """Translate what gRPC raised.

    Parameters
    ----------
    exc
        A failed call.
    unavailable
        The code of a connection that could not be made: says which service the channel leads to.
    """
    details = exc.details() or ""
    coded = _CODED.match(details)
    if coded:
        code, text = coded[1], coded[2]
        return RpcError(text or code, hint=_hint_of(exc) or _entry(code, exc.code()).hint, code=code)
    code = _code_without_text(exc.code(), details, unavailable)
    return error(code, details or f"the call failed with {exc.code().name}", hint=_hint_of(exc))


async def abort(context: grpc.aio.ServicerContext[Any, Any], exc: RpcError) -> NoReturn:
    """End a call with an error of the catalogue."""
    entry = _entry(exc.code, _S.INTERNAL)
    trailing = ((HINT_KEY, exc.hint.encode()),) if exc.hint and exc.hint != entry.hint else ()
    await context.abort(entry.status, f"[{exc.code}] {exc.message}", trailing)
    raise AssertionError("abort raises")


def _entry(code: str, status: grpc.StatusCode) -> Entry:
    return CATALOGUE.get(code) or CATALOGUE[BY_STATUS[status]]


def _code_without_text(status: grpc.StatusCode, details: str, unavailable: str) -> str:
    if status in (_S.UNAVAILABLE, _S.INTERNAL, _S.UNKNOWN, _S.CANCELLED) and _BROKEN_STREAM.search(details):
        return "CONNECTION_LOST"
    return unavailable if status is _S.UNAVAILABLE else BY_STATUS[status]


def _hint_of(exc: grpc.aio.AioRpcError) -> str:
    trailing = cast(Iterable[tuple[str, str | bytes]], exc.trailing_metadata() or ())
    hint = dict(trailing).get(HINT_KEY, b"")
    return hint.decode(errors="replace") if isinstance(hint, bytes) else ""
