"""The API key asked for at every address of the server, as a middleware of vLLM's application.

vLLM itself asks for it below /v1 alone, while /invocations answers prompts and /tokenize reads them.
"""

from __future__ import annotations

import hmac
import json
import os
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

OPEN = frozenset({"/health", "/ping"})
"""What says that the server is up and no more; load balancers ask it without a key."""

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Callable[[], Awaitable[Message]], Send], Awaitable[None]]


class RequireKey:
    """Refuses requests without the key with 401, before anything reads them."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._wanted = f"Bearer {os.environ['VLLM_API_KEY']}".encode()

    async def __call__(self, scope: Message, receive: Callable[[], Awaitable[Message]], send: Send) -> None:
        asks = scope["type"] in ("http", "websocket") and scope.get("method") != "OPTIONS"
        if asks and scope["path"] not in OPEN and not self._knows_key(scope):
            await _refuse(scope, send)
        else:
            await self._app(scope, receive, send)

    def _knows_key(self, scope: Message) -> bool:
        given = dict(scope["headers"]).get(b"authorization", b"")
        return hmac.compare_digest(given, self._wanted)


async def _refuse(scope: Message, send: Send) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})
        return
    error = {"message": "Unauthorized: no or a wrong API key", "type": "Unauthorized", "code": 401}
    body = json.dumps({"error": error}).encode()
    await send(
        {
            "type": "http.response.start",
            "status": 401,
            "headers": [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())],
        }
    )
    await send({"type": "http.response.body", "body": body})
