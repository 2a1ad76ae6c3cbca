"""A broker for one account from its sealed credentials, for a command that runs without an engine."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from engine.broker.base import Broker
from engine.broker.kite.adapter import KiteBroker
from engine.broker.kite.origin import Origin
from engine.broker.kite.reads import KiteReads
from engine.broker.kite.session import paper_login
from engine.broker.kite.wire import OrderWire
from engine.clock import Clock
from engine.errors import BrokerUnavailable
from engine.security.creds_file import Credentials


@asynccontextmanager
async def lone_broker(
    account: Credentials, *, clock: Clock, timeout_s: float, local_address: str | None
) -> AsyncIterator[Broker]:
    """Open the broker of *account* from its credentials alone. Raises BrokerUnavailable."""
    if not account.root_url:
        raise BrokerUnavailable("it is not known where its broker is")
    token = account.access_token
    if account.api_secret:
        try:
            with trio.fail_after(timeout_s):
                session = await paper_login(account.root_url, api_key=account.api_key, api_secret=account.api_secret)
        except trio.TooSlowError:
            raise BrokerUnavailable("the broker does not answer") from None
        token = session.access_token
    origin = Origin.parse(account.root_url)
    wire = OrderWire(origin, timeout_s=timeout_s, local_address=local_address)
    reads = KiteReads(origin, timeout_s=timeout_s, local_address=local_address)
    broker = KiteBroker(account.root_url, account.api_key, token or None, clock, timeout_s, wire=wire, reads=reads)
    try:
        yield broker
    finally:
        with trio.move_on_after(1, shield=True):
            await wire.aclose()
            await reads.aclose()
