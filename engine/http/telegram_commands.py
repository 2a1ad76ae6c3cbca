"""Commands that a person types in a chat of a telegram source: /login and /status.

Only what the source's owner may see anyway is answered, and only in the chats that the source lists. A link
is one to the broker's own login page: passwords and one-time codes are never typed here.
"""

from uuid import UUID

from engine.domain.directory import Account
from engine.domain.enums import Role
from engine.http.login_links import CONSOLE_PATH, make_link
from engine.http.services import Services
from engine.signals.chat_text import outside

_COMMANDS = frozenset({"/login", "/status"})
_MOST_LINKS = 10
_MINUTES = 10


def command_in(text: str) -> str | None:
    """Return the command that *text* is, without the bot's name that groups add; None for anything else."""
    word, _, _ = text.strip().partition("@")
    word = word.lower()
    return word if word in _COMMANDS else None


def answer(services: Services, owner_id: UUID, command: str, *, base: str) -> str:
    """Return what is said to *command* about the accounts of a user; *base* is where the engine is reached."""
    accounts = sorted(
        (a for a in services.directory.accounts_of(owner_id) if a.broker == "kite"), key=lambda a: a.label
    )
    if not accounts:
        return "There is no kite account."
    if command == "/status":
        return "\n".join(_status(account) for account in accounts)
    owner = services.users.get(owner_id)
    if owner is None or owner.disabled or owner.role is Role.VIEWER:
        return "The owner of these accounts may not log them in."
    lines = [f"Good for one login within {_MINUTES} minutes; log in on Zerodha's own page only:"]
    for account in accounts[:_MOST_LINKS]:
        link = make_link(services, account, user_id=owner_id, via="telegram", base=base)
        lines += [_status(account), link.url]
    if len(accounts) > _MOST_LINKS:
        lines.append(f"{len(accounts) - _MOST_LINKS} more accounts: {base}{CONSOLE_PATH}")
    return "\n".join(lines)


def _status(account: Account) -> str:
    # the code is enough for a chat
    reason = (account.status_reason or "").partition(". The broker said")[0]
    return f"{account.label}: {account.status}" + (f" ({outside(reason)})" if reason else "")
