"""Keys: made once, kept private, and refused when others can read them (SEC-009, SEC-077)."""

import base64
import os
import stat
from pathlib import Path

import pytest

from engine.errors import ConfigError, StartupError
from engine.secret import Secret
from engine.security.keys import Keys, derive, load_or_create


def load(folder: Path, *, master: str | None = None, jwt: str | None = None) -> Keys:
    return load_or_create(
        master_key=None if master is None else Secret(master),
        jwt_secret=None if jwt is None else Secret(jwt),
        data_dir=folder,
    )


def test_keys_of_a_new_folder_are_made_and_then_kept(tmp_path: Path) -> None:
    first = load(tmp_path / "new")
    assert load(tmp_path / "new") == first
    assert len(first.master) == len(first.jwt) == 32
    assert len({first.master, first.jwt, first.journal, first.tag, first.audit, first.keks[0].file_key}) == 6


def test_keys_are_private_on_disk_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        load(tmp_path)
    finally:
        os.umask(before)
    folder = tmp_path / "keys"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert sorted(path.name for path in folder.iterdir()) == ["jwt.key", "master.key"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}


def test_two_data_directories_have_different_keys(tmp_path: Path) -> None:
    assert load(tmp_path / "a").master != load(tmp_path / "b").master


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
def test_key_file_that_others_can_read_is_refused_with_the_mend(tmp_path: Path, mode: int) -> None:
    load(tmp_path)
    path = tmp_path / "keys" / "master.key"
    path.chmod(mode)
    with pytest.raises(StartupError, match=f"chmod 600 {path}"):
        load(tmp_path)


def test_key_folder_that_others_can_enter_is_refused_with_the_mend(tmp_path: Path) -> None:
    load(tmp_path)
    (tmp_path / "keys").chmod(0o755)
    with pytest.raises(StartupError, match="chmod 700"):
        load(tmp_path)


def test_key_file_of_another_user_is_refused(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    load(tmp_path)
    os.chown(tmp_path / "keys" / "jwt.key", 65534, 65534)
    with pytest.raises(StartupError, match="belongs to another user"):
        load(tmp_path)


@pytest.mark.parametrize("content", [b"", b"short", b"\xff" * 40, b"0" * 64])
def test_key_file_without_a_key_is_refused_and_not_replaced(tmp_path: Path, content: bytes) -> None:
    load(tmp_path)
    path = tmp_path / "keys" / "master.key"
    path.write_bytes(content)
    with pytest.raises(StartupError, match=r"master\.key"):
        load(tmp_path)
    assert path.read_bytes() == content


def test_key_file_that_is_a_link_is_refused(tmp_path: Path) -> None:
    load(tmp_path)
    path = tmp_path / "keys" / "master.key"
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StartupError, match="key file"):
        load(tmp_path)


def test_configured_keys_are_used_and_nothing_is_written(tmp_path: Path) -> None:
    raw = bytes(range(32))
    keys = load(tmp_path, master=raw.hex(), jwt=base64.urlsafe_b64encode(raw[::-1]).decode())
    assert (keys.master, keys.jwt) == (raw, raw[::-1])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["short", "changeme" * 8, "0" * 64, ""])
def test_configured_key_that_is_weak_is_refused_by_name(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"security\.jwt_secret"):
        load(tmp_path, jwt=text)


def test_derive_gives_unrelated_keys_per_purpose() -> None:
    master = bytes(range(32))
    assert derive(master, "tag") == derive(master, "tag") != derive(master, "audit")
    assert len(derive(master, "tag")) == 32


def test_keys_do_not_show_themselves(tmp_path: Path) -> None:
    keys = load(tmp_path)
    assert repr(keys) == str(keys) == "Keys(***)"
