"""Notices that a resource has changed: of a run when its state does, of AGENTS.md and pages when they are saved.

Clients of the handshake era subscribe to an address; those of 2026-07-28 listen. Only what somebody waits for is looked
at, once a second, from the files: a run that another server started is noticed like one's own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import anyio
from mcp.server.session import ServerSession
from mcp.server.subscriptions import ListenHandler, ResourceUpdated, SubscriptionBus
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INVALID_PARAMS,
    EmptyResult,
    SubscribeRequestParams,
    SubscriptionsListenRequestParams,
    SubscriptionsListenResult,
    UnsubscribeRequestParams,
)

from tuneyard.mcp.tool import in_thread

POLL_SECONDS = 1.0
MOST_ADDRESSES = 1000
"""Addresses that clients may be subscribed to at once."""


class Watch:
    """Who waits for which address, and what each looked like last."""

    def __init__(self, look: Callable[[str], Any], bus: SubscriptionBus) -> None:
        """
        Args:
            look: what an address looks like now: anything that differs when it has changed.
            bus: carries notices to those who listen.
        """
        self._look = look
        self._bus = bus
        self._listen = ListenHandler(bus)
        self._listened: Counter[str] = Counter()
        self._subscribed: dict[str, dict[str, ServerSession]] = {}
        self._seen: dict[str, Any] = {}

    async def subscribe(self, ctx: Any, params: SubscribeRequestParams) -> EmptyResult:
        """`resources/subscribe`."""
        if len(self._subscribed) >= MOST_ADDRESSES and str(params.uri) not in self._subscribed:
            raise MCPError(INVALID_PARAMS, f"{MOST_ADDRESSES} addresses are subscribed to already")
        self._subscribed.setdefault(str(params.uri), {})[_client(ctx)] = ctx.session
        await self._remember([str(params.uri)])
        return EmptyResult()

    async def unsubscribe(self, ctx: Any, params: UnsubscribeRequestParams) -> EmptyResult:
        """`resources/unsubscribe`."""
        sessions = self._subscribed.get(str(params.uri), {})
        sessions.pop(_client(ctx), None)
        if not sessions:
            self._subscribed.pop(str(params.uri), None)
        return EmptyResult()

    async def listen(self, ctx: Any, params: SubscriptionsListenRequestParams) -> SubscriptionsListenResult:
        """`subscriptions/listen`, for as long as the client listens."""
        addresses = [str(address) for address in params.notifications.resource_subscriptions or ()]
        with self._wanted(addresses):
            await self._remember(addresses)
            return await self._listen(ctx, params)

    @contextmanager
    def _wanted(self, addresses: list[str]) -> Iterator[None]:
        self._listened.update(addresses)
        try:
            yield
        finally:
            self._listened -= Counter(addresses)

    async def _remember(self, addresses: list[str]) -> None:
        """What comes later than the subscription is a change, and nothing else."""
        for address in addresses:
            self._seen.setdefault(address, await in_thread(self._look, address))

    async def run(self) -> None:
        """Look and tell until cancelled."""
        while True:
            await anyio.sleep(POLL_SECONDS)
            wanted = {*self._listened, *self._subscribed}
            for gone in self._seen.keys() - wanted:
                del self._seen[gone]
            for address in sorted(wanted)[: 2 * MOST_ADDRESSES]:
                look = await in_thread(self._look, address)
                if self._seen.setdefault(address, look) != look:
                    self._seen[address] = look
                    await self._tell(address)

    async def _tell(self, address: str) -> None:
        await self._bus.publish(ResourceUpdated(uri=address))
        for session in list(self._subscribed.get(address, {}).values()):
            await session.send_resource_updated(address)  # to a client that is gone it goes nowhere


def _client(ctx: Any) -> str:
    """What tells one client from another: over HTTP the id of its session; on stdin there is only one."""
    return ctx.request.headers.get("mcp-session-id", "") if ctx.request is not None else ""
