"""The sealed copy of the accounts' credentials: opens with its own keys in its own deployment, and never otherwise."""

import json
import os
from decimal import Decimal
from uuid import UUID

import pytest
import trio

from engine.actors.creds_keeper import CredsKeeper
from engine.domain.directory import Account, Directory
from engine.domain.enums import AccountStatus
from engine.secret import Secret
from engine.security.creds_file import Credentials, CredsFile, CredsUnreadable
from engine.security.envelope import KeyRing

KEY = b"k" * 32
FIRST = Credentials(
    account_id=UUID(int=1),
    user_id=UUID(int=3),
    label="A",
    broker="kite",
    root_url="u",
    api_key="first-key",
    access_token="first-token",
)
SECOND = Credentials(
    account_id=UUID(int=2),
    user_id=UUID(int=3),
    label="B",
    broker="kite",
    root_url="u",
    api_key="second-key",
    access_token="second-token",
)


def creds(folder, key=KEY, deployment="AB"):
    return CredsFile(folder / "state" / "creds.enc", KeyRing([key]), deployment=deployment)


def test_what_is_written_is_read_and_shows_nothing(tmp_path):
    creds(tmp_path).write([FIRST, SECOND])
    assert creds(tmp_path).read() == [FIRST, SECOND]
    path = tmp_path / "state" / "creds.enc"
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(path.parent) == ["creds.enc"]
    content = path.read_bytes()
    assert not [word for word in (b"first-token", b"first-key") if word in content]
    assert "first-token" not in repr(FIRST)


def test_other_keys_other_deployment_and_swapped_accounts_do_not_open(tmp_path):
    creds(tmp_path).write([FIRST, SECOND])
    for other in (creds(tmp_path, key=b"x" * 32), creds(tmp_path, deployment="CD")):
        with pytest.raises(CredsUnreadable, match="does not open"):
            other.read()
    path = tmp_path / "state" / "creds.enc"
    held = json.loads(path.read_text())
    first, second = held["accounts"]
    held["accounts"] = {first: held["accounts"][second], second: held["accounts"][first]}
    path.write_text(json.dumps(held))
    with pytest.raises(CredsUnreadable, match="does not open"):
        creds(tmp_path).read()


@pytest.mark.parametrize("content", [None, b"", b"{}", b"\xff"])
def test_missing_or_damaged_file_says_so(tmp_path, content):
    (tmp_path / "state").mkdir()
    if content is not None:
        (tmp_path / "state" / "creds.enc").write_bytes(content)
    with pytest.raises(CredsUnreadable, match=r"creds\.enc"):
        creds(tmp_path).read()


async def test_keeper_follows_sessions_and_deletions_and_writes_nothing_anew_for_nothing(tmp_path):
    directory, file = Directory(), creds(tmp_path)
    path = tmp_path / "state" / "creds.enc"

    def account(number, token):
        return Account(
            id=UUID(int=number),
            user_id=UUID(int=3),
            label="A",
            broker="kite",
            capital=Decimal(1),
            status=AccountStatus.ACTIVE,
            api_key="k",
            api_secret=Secret("never"),
            access_token=Secret(token),
        )

    keeper = CredsKeeper(file, directory=directory, root_of=lambda _account: "https://b", alert=lambda *_: None)
    directory.put_account(account(1, "first-token"))
    directory.put_account(account(2, "second-token"))
    await keeper.look()
    assert [(c.access_token, c.api_secret) for c in file.read()] == [("first-token", ""), ("second-token", "")]
    inode = path.stat().st_ino
    await keeper.look()
    assert path.stat().st_ino == inode
    directory.put_account(account(1, "t3"))
    directory.remove(UUID(int=2))
    await keeper.look()
    assert [c.access_token for c in file.read()] == ["t3"]


async def test_keeper_alerts_once_and_tries_again(tmp_path):
    directory, alerts = Directory(), []
    (tmp_path / "state").write_text("in the way")
    keeper = CredsKeeper(
        creds(tmp_path), directory=directory, root_of=lambda _account: "", alert=lambda *told: alerts.append(told)
    )
    await keeper.look()
    await keeper.look()
    assert len(alerts) == 1
    (tmp_path / "state").unlink()
    with trio.fail_after(5):
        await keeper.look()
    assert creds(tmp_path).read() == []
