"""``engine user``: accounts of people."""

import re
import secrets
import sys
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import trio
import typer

from engine.actors.control import call
from engine.cli.places import (
    ConfigOption,
    DataDirOption,
    JsonOption,
    config_of,
    data_dir_of,
    open_stores,
    say,
    say_json,
)
from engine.cli.terminal import say_table
from engine.clock import SystemClock
from engine.domain.audit import AuditDraft
from engine.domain.enums import Role
from engine.errors import EngineError
from engine.ids import uuid7
from engine.security.password_rules import check
from engine.security.passwords import hash_password
from engine.security.sessions import UserRecord
from engine.store import audit_append, factors, users
from engine.store.database import Database
from engine.store.migrate import migrate

_EMAIL = re.compile(r"[^@\s\x00-\x1f\x7f]{1,64}@[^@\s\x00-\x1f\x7f]{1,190}")

app = typer.Typer(no_args_is_help=True, help="Accounts of people.")

EmailOption = Annotated[str, typer.Option("--email", help="E-mail address to sign in with.")]
PasswordOption = Annotated[bool, typer.Option("--password-stdin", help="Read the password from standard input.")]


@app.command("add")
def add(
    email: EmailOption,
    role: Annotated[Role, typer.Option("--role", help="What the person may do.")],
    name: Annotated[str, typer.Option("--name", help="The person's name.")] = "",
    password_stdin: PasswordOption = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Add a person; without --password-stdin a password is made and printed once."""
    if not _EMAIL.fullmatch(email.strip()):
        raise typer.BadParameter("an e-mail address has an @ and no blanks", param_hint="--email")
    if not name.isprintable():
        raise typer.BadParameter("a name is made of printable characters", param_hint="--name")
    password, is_made = _password(email, from_stdin=password_stdin)
    hashed, now, user_id = hash_password(password), SystemClock().now(), uuid7()

    async def unit(connection: Any) -> None:
        made = await users.insert_user(
            connection, user_id=user_id, email=email, name=name, role=role, password_hash=hashed, now=now
        )
        if made is None:
            raise EngineError(f"{email} is taken; `engine user list` shows who there is")
        draft = AuditDraft(
            at=now,
            actor="cli",
            action="USER_CREATED",
            subject=f"user:{user_id}",
            content={"email": made.email, "role": role.value},
        )
        await audit_append.append(connection, draft)

    _change(unit, config, data_dir)
    say(f"added {email} as {role.value}, id {user_id}" + (f", password {password} (shown only now)" if is_made else ""))


@app.command("passwd")
def passwd(
    email: EmailOption,
    password_stdin: PasswordOption = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Set a new password; every session of the person ends."""
    password, is_made = _password(email, from_stdin=password_stdin)
    hashed, now = hash_password(password), SystemClock().now()

    async def unit(connection: Any) -> None:
        found = await _found(connection, email)
        await users.set_password(connection, user_id=found.id, password_hash=hashed, now=now)
        await audit_append.append(connection, _draft(now, "PASSWORD_CHANGED", found.id))

    _change(unit, config, data_dir)
    say(f"new password for {email}" + (f": {password} (shown only now)" if is_made else " is set"))


@app.command("mfa-reset")
def mfa_reset(email: EmailOption, config: ConfigOption = None, data_dir: DataDirOption = None) -> None:
    """Take a person's second factor away, for a lost phone; every session of the person ends."""
    now = SystemClock().now()

    async def unit(connection: Any) -> None:
        found = await _found(connection, email)
        if found.short_password:
            raise EngineError(
                f"the password of {email} is too short to be the only factor: set another with `engine user passwd`"
            )
        if not await factors.remove(connection, found.id):
            raise EngineError(f"{email} has no second factor")
        await users.end_sessions(connection, found.id, now=now)
        await audit_append.append(connection, _draft(now, "MFA_RESET", found.id))

    _change(unit, config, data_dir)
    say(f"{email} signs in with the password alone now; a new second factor is enrolled at POST /auth/mfa/enroll")


@app.command("unlock")
def unlock(email: EmailOption, config: ConfigOption = None, data_dir: DataDirOption = None) -> None:
    """Begin the count of a person's failed sign-ins anew, after a hundred in a row."""
    now = SystemClock().now()

    async def unit(connection: Any) -> None:
        found = await _found(connection, email)
        await users.forgive_failures(connection, found.id)
        await factors.forgive_failures(connection, found.id)
        await audit_append.append(connection, _draft(now, "LOGIN_UNLOCKED", found.id))

    _change(unit, config, data_dir)
    say(f"{email} may sign in from anywhere again")


@app.command("list")
def show(config: ConfigOption = None, data_dir: DataDirOption = None, json: JsonOption = False) -> None:
    """List the people."""
    found = _change(users.list_users, config, data_dir)
    if json:
        say_json(
            [
                {"id": u.id, "email": u.email, "name": u.name, "role": u.role, "disabled": u.disabled, "mfa": u.mfa}
                for u in found
            ]
        )
        return
    say_table(
        ("ID", "Role", "E-mail", "Name", "Second factor", "Disabled"),
        [(u.id, u.role.value, u.email, u.name, "yes" if u.mfa else "no", "yes" if u.disabled else "no") for u in found],
        plain=[f"{u.id}  {u.role.value:<6}  {u.email}{'  (disabled)' if u.disabled else ''}" for u in found],
    )


async def _found(connection: Any, email: str) -> UserRecord:
    found = await users.user_by_email(connection, email)
    if found is None:
        raise EngineError(f"there is no user {email}; `engine user list` shows who there is")
    return found


def _draft(now: datetime, action: str, user_id: UUID) -> AuditDraft:
    return AuditDraft(at=now, actor="cli", action=action, subject=f"user:{user_id}", content={"by": "cli"})


def _password(email: str, *, from_stdin: bool) -> tuple[str, bool]:
    if not from_stdin:
        return secrets.token_urlsafe(15), True
    password = sys.stdin.readline().rstrip("\n")
    problems = check(password, email)
    if problems:
        raise EngineError("this password will not do: " + "; ".join(problems))
    return password, False


def _change(unit: Any, config: Any, data_dir: Any) -> Any:
    settings, folder = config_of(config), data_dir_of(data_dir)

    async def work() -> Any:
        async with open_stores(settings, folder) as stores:
            await migrate(stores.database_url)
            database = Database(stores.database_url, max_connections=1)
            await database.open()
            try:
                done = await database.run(unit, timeout_s=10, shield=True)
            finally:
                await database.close()
            # a running engine holds its users in memory
            await call(folder, {"command": "users-changed"})
            return done

    return trio.run(work)
