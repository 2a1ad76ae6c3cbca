"""The part of ``engine doctor`` that asks the broker whether each kite account's session lives."""

from pathlib import Path
from typing import Any

import trio

from engine.broker.base import BrokerAuthError
from engine.broker.kite.adapter import KiteBroker
from engine.broker.standing import login_reason
from engine.cli.places import load_keys
from engine.clock import Clock
from engine.config import Config
from engine.domain.broker_session import is_trusted
from engine.domain.directory import Account, Directory
from engine.domain.enums import AccountStatus
from engine.errors import BrokerUnavailable, EngineError
from engine.store import directory as directory_store
from engine.store.database import Database
from engine.store.directory import Vault

_TIMEOUT_S = 10.0
_AT_ONCE = 8


async def broker_tokens(settings: Config, folder: Path, database: Database, clock: Clock) -> str:
    """Return what was seen of the sessions. Raises EngineError that names every account that cannot trade."""
    security = settings.security
    if security.master_key is None and not (folder / "keys").exists():
        return "no account yet"
    keys = await trio.to_thread.run_sync(lambda: load_keys(security, folder))
    directory, vault = Directory(), Vault(keys.ring())

    async def unit(connection: Any) -> None:
        await directory_store.load(connection, vault, directory)

    await database.run(unit)
    accounts = [account for account in directory.accounts.values() if account.broker == "kite"]
    if not accounts:
        return "no kite account"
    faults: list[str] = []
    needs_login = False
    limiter = trio.CapacityLimiter(_AT_ONCE)

    async def look(account: Account) -> None:
        nonlocal needs_login
        async with limiter:
            fault = await _fault(account, settings, clock)
        if fault is not None:
            needs_login = needs_login or not fault.startswith(AccountStatus.ORDERS_BLOCKED)
            faults.append(f"{account.label}: {fault}")

    async with trio.open_nursery() as nursery:
        for account in accounts:
            nursery.start_soon(look, account)
    if faults:
        mend = " (`engine login ACCOUNT` prints where to log in)" if needs_login else ""
        raise EngineError("; ".join(sorted(faults)) + mend)
    return f"{len(accounts)} kite account{'s are' if len(accounts) > 1 else ' is'} logged in"


async def _fault(account: Account, settings: Config, clock: Clock) -> str | None:
    if account.access_token is None:
        return "nobody has logged in"
    if account.login is not None and not is_trusted(account.login.logged_in_at, clock.now()):
        return "the login is of an earlier day; log in again"
    kite = settings.broker.kite
    broker = KiteBroker(kite.root_url, account.api_key, account.access_token.reveal(), clock, kite.timeout_s)
    try:
        with trio.fail_after(_TIMEOUT_S):
            profile = await broker.profile()
    except BrokerAuthError as error:
        return login_reason(error.code, str(error))
    except (BrokerUnavailable, trio.TooSlowError) as error:
        return f"the broker cannot be asked: {error or 'no answer'}"
    finally:
        with trio.move_on_after(1, shield=True):
            await broker.aclose()
    known = None if account.login is None else account.login.broker_user_id
    if known is not None and profile.user_id != known:
        return f"the session is Zerodha user {profile.user_id}'s, the account is {known}'s; log in again"
    return None if account.status == "ACTIVE" else f"{account.status}: {account.status_reason}"
