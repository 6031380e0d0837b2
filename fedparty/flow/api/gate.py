"""What every request must pass before anything of it is read: the token, and a limit on its size.

Owns the two checks, as bare ASGI. Does not own who may do what: this party's people share one token.
"""

from __future__ import annotations

import hmac

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fedparty.flow.api.errors import answer
from fedparty.types import Secret

_GUARDED = "/v1"


class Gate:
    """The checks, around an application.

    Parameters
    ----------
    app
        What lies behind.
    token, token_place
        What must be shown as ``Authorization: Bearer``, and where a person finds it.
    limit_bytes
        Size of a request's body.
    """

    def __init__(self, app: ASGIApp, token: Secret, token_place: str, limit_bytes: int) -> None:
        self._app = app
        self._expected = f"Bearer {token.reveal()}".encode()
        self._hint = f"Show the token from {token_place}: Authorization: Bearer TOKEN."
        self._limit_bytes = limit_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request pass, or answer it."""
        if scope["type"] == "http" and self._is_guarded(scope["path"]):
            shown = Headers(scope=scope).get("authorization", "")
            if not hmac.compare_digest(shown.encode(), self._expected):
                error = "the token is wrong" if shown else "the request carries no token"
                return await answer(401, error, self._hint, "TOKEN_REFUSED")(scope, receive, send)
        return await self._app(scope, self._limited(receive), send)

    @staticmethod
    def _is_guarded(path: str) -> bool:
        return path == _GUARDED or path.startswith(f"{_GUARDED}/")

    def _limited(self, receive: Receive) -> Receive:
        left = self._limit_bytes

        async def limited() -> Message:
            nonlocal left
            message = await receive()
            left -= len(message.get("body", b""))
            if left < 0:
                raise HTTPException(413, f"the request is larger than {self._limit_bytes} bytes")
            return message

        return limited
