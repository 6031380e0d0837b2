"""How errors look over HTTP: ``{"error": what, "hint": what to do, "code": catalogue code}``, always.

Owns the one translation from exceptions. Does not own their texts.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from fedparty.errors import DatabaseError, FedpartyError, RpcError
from fedparty.rpc.catalogue import CATALOGUE

logger = logging.getLogger(__name__)

_STATUS = {
    "INVALID_ARGUMENT": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "FAILED_PRECONDITION": 409,
    "ALREADY_EXISTS": 409,
    "ABORTED": 409,
    "RESOURCE_EXHAUSTED": 429,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}
_MAX_LENGTH = 10_000
_MALFORMED = "Correct what is named; GET /openapi.json describes what is expected."
_HINTS = {
    400: "Correct the request: its body must be JSON, in UTF-8.",
    404: "GET /openapi.json describes the paths there are.",
    405: "GET /openapi.json describes the methods of each path.",
    413: "Parameters are for settings: put data into a table.",
}


def answer(status: int, error: str, hint: str, code: str) -> JSONResponse:
    """Return an error as a response; what it quotes from the request may be long, or not Unicode."""
    text = error[:_MAX_LENGTH].encode(errors="backslashreplace").decode()
    return JSONResponse({"error": text, "hint": hint, "code": code}, status)


def install(app: FastAPI) -> None:
    """Let every error of `app` look the same."""
    app.add_exception_handler(FedpartyError, _on_fedparty_error)
    app.add_exception_handler(RequestValidationError, _on_malformed)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(Exception, _on_unforeseen)


def status_of(exc: FedpartyError) -> int:
    """Return the HTTP status of an error."""
    if isinstance(exc, DatabaseError):
        return 503
    if not isinstance(exc, RpcError) or exc.code == "NOT_ENOUGH_RESOURCES":  # later is as bad as now
        return 422
    return _STATUS.get(CATALOGUE[exc.code].status.name, 500) if exc.code in CATALOGUE else 500


def code_of(exc: FedpartyError) -> str:
    """Return the catalogue's code of an error."""
    if isinstance(exc, RpcError):
        return exc.code
    return "DATABASE_DOWN" if isinstance(exc, DatabaseError) else "BAD_REQUEST"


async def _on_fedparty_error(_request: Request, exc: Exception) -> JSONResponse:
    if not isinstance(exc, FedpartyError):
        raise exc
    return answer(status_of(exc), exc.message, exc.hint, code_of(exc))


async def _on_malformed(_request: Request, exc: Exception) -> JSONResponse:
    faults: Sequence[Any] = exc.errors() if isinstance(exc, RequestValidationError) else ()
    is_json = all(fault["type"] != "json_invalid" for fault in faults)
    text = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in faults)
    return answer(422 if is_json else 400, text, _MALFORMED, "BAD_REQUEST")


async def _on_http(_request: Request, exc: Exception) -> JSONResponse:
    status, detail = (exc.status_code, str(exc.detail)) if isinstance(exc, HTTPException) else (500, str(exc))
    return answer(status, detail, _HINTS.get(status, ""), "NOT_KNOWN" if status == 404 else "BAD_REQUEST")


async def _on_unforeseen(_request: Request, exc: Exception) -> JSONResponse:
    logger.error("unforeseen error in a request", exc_info=exc)
    return answer(500, f"unforeseen error: {type(exc).__name__}", CATALOGUE["INTERNAL"].hint, "INTERNAL")
