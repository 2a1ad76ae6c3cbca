"""The endpoints of the API, by subject; `registry` collects them all."""

from engine.http.endpoint import Registry
from engine.http.routes import (
    accounts,
    audit,
    auth,
    broker_login,
    console,
    dead_letters,
    execution,
    gtts,
    instruments,
    intents,
    kill_certificates,
    kill_drills,
    killswitch,
    market,
    order_changes,
    pnl,
    postback,
    reconcile,
    risk,
    signals,
    sources,
    square_off,
    strategies,
    system,
    telegram,
    users,
)


def registry() -> Registry:
    """Return every endpoint of the API."""
    return Registry.of(
        auth,
        users,
        accounts,
        broker_login,
        reconcile,
        strategies,
        sources,
        signals,
        telegram,
        intents,
        execution,
        order_changes,
        pnl,
        gtts,
        instruments,
        market,
        postback,
        risk,
        killswitch,
        kill_certificates,
        kill_drills,
        square_off,
        system,
        dead_letters,
        audit,
        console,
    )


__all__ = ["registry"]
