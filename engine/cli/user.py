"""``engine user``: accounts of people."""

import re
import secrets
import sys
from typing import Annotated, Any

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
from engine.clock import SystemClock
from engine.domain.audit import AuditDraft
from engine.domain.enums import Role
from engine.errors import EngineError
from engine.ids import uuid7
from engine.security.passwords import check, hash_password
from engine.store import audit_append, users
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
        found = await users.user_by_email(connection, email)
        if found is None:
            raise EngineError(f"there is no user {email}; `engine user list` shows who there is")
        await users.set_password(connection, user_id=found.id, password_hash=hashed, now=now)
        draft = AuditDraft(
            at=now, actor="cli", action="PASSWORD_CHANGED", subject=f"user:{found.id}", content={"by": "cli"}
        )
        await audit_append.append(connection, draft)

    _change(unit, config, data_dir)
    say(f"new password for {email}" + (f": {password} (shown only now)" if is_made else " is set"))


@app.command("list")
def show(config: ConfigOption = None, data_dir: DataDirOption = None, json: JsonOption = False) -> None:
    """List the people."""
    found = _change(users.list_users, config, data_dir)
    if json:
        say_json(
            [{"id": u.id, "email": u.email, "name": u.name, "role": u.role, "disabled": u.disabled} for u in found]
        )
        return
    for user in found:
        say(f"{user.id}  {user.role.value:<6}  {user.email}{'  (disabled)' if user.disabled else ''}")


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
