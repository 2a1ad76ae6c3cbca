"""A secret in hand shows in nothing that is printed, encoded, copied or raised (SEC-075)."""

import copy
import dataclasses
import io
import json
import logging
import os
import pickle
import resource
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import pytest
import structlog

from engine.config import SecurityConfig, TelegramConfig, resolve_secret
from engine.domain.audit import AuditDraft, canonical
from engine.errors import ConfigError
from engine.observability.logs import configure
from engine.secret import Secret
from engine.security.keys import load_or_create
from engine.security.wrapping import Kek

CANARY = f"canary{uuid4().hex}"
SECRET = Secret(CANARY)


@dataclasses.dataclass
class Holder:
    secret: Secret = SECRET


class Struct(msgspec.Struct):
    secret: Secret = SECRET


SHOWN = [
    lambda: repr(SECRET),
    lambda: str(SECRET),
    lambda: f"{SECRET} {SECRET!r} {SECRET!s} {SECRET!a} {SECRET:>40}",
    lambda: "%s %r" % (SECRET, SECRET),  # noqa: UP031 -- one of the ways
    lambda: f"{SECRET} {SECRET!r:x<60}",
    lambda: f"{[SECRET]} { {'a': SECRET} } {(SECRET,)}",
    lambda: repr(Holder()) + str(dataclasses.fields(Holder())),
    lambda: repr(Struct()) + repr(SecurityConfig(master_key=SECRET)) + repr(TelegramConfig(bot_token=SECRET)),
    lambda: json.dumps({"s": SECRET}, default=str) + json.dumps({"s": SECRET}, default=repr),
    lambda: msgspec.json.encode({"s": SECRET}, enc_hook=str).decode(),
    lambda: str(ValueError(SECRET)) + repr(ValueError(SECRET)),
    lambda: logging.LogRecord("x", 1, "x", 1, "%s", (SECRET,), None).getMessage(),
]


@pytest.mark.parametrize("show", SHOWN)
def test_sec_075_secret_shows_as_stars(show: Any) -> None:
    shown = show()
    assert CANARY not in shown
    assert "***" in shown


REFUSED = [
    lambda: json.dumps({"s": SECRET}),
    lambda: msgspec.json.encode(SECRET),
    lambda: msgspec.msgpack.encode({"s": SECRET}),
    lambda: msgspec.to_builtins(Struct()),
    lambda: pickle.dumps(SECRET),
    lambda: pickle.dumps(Holder()),
    lambda: copy.copy(SECRET),
    lambda: copy.deepcopy([SECRET]),
    lambda: dataclasses.asdict(Holder()),
    lambda: vars(SECRET),
    lambda: canonical(AuditDraft(at=None, actor="a", action="A", subject="s", content={"s": SECRET})),  # type: ignore[arg-type]
]


@pytest.mark.parametrize("leak", REFUSED)
def test_sec_075_secret_is_refused_where_it_would_be_copied_out(leak: Any) -> None:
    with pytest.raises(TypeError) as caught:
        leak()
    assert CANARY not in "".join(traceback.format_exception(caught.value))


def test_sec_075_keys_show_nothing(tmp_path: Path) -> None:
    keys = load_or_create(master_key=Secret(CANARY), jwt_secret=Secret(CANARY), data_dir=tmp_path)
    shown = f"{keys} {keys!r} {keys.keks} {Kek(CANARY.encode())} {keys.ring()!r}"
    for key in (CANARY.encode(), keys.journal, keys.tag, keys.audit, keys.keks[0].file_key):
        assert key.hex() not in shown
        assert key.decode("latin-1") not in shown


def test_sec_075_tracebacks_in_the_logs_show_no_local_variable(tmp_path: Path) -> None:
    writer = configure(tmp_path, "debug", 90, console="off")
    try:
        token = CANARY
        try:
            raise ValueError(f"of {len(token)} characters")
        except ValueError:
            structlog.get_logger("attack").exception("it.failed")
    finally:
        writer.close()
        structlog.reset_defaults()
    logged = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"it.failed" in logged
    assert b"ValueError" in logged
    assert CANARY.encode() not in logged


def test_sec_075_process_writes_no_core_and_is_closed_to_debuggers() -> None:
    code = (
        "import resource, ctypes\n"
        "from engine.security.environment import deny_inspection, harden_process\n"
        "harden_process()\n"
        "assert deny_inspection()\n"
        "print(resource.getrlimit(resource.RLIMIT_CORE), ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20)
    assert done.stdout.strip() == "(0, 0) 0", done.stderr
    assert resource.getrlimit(resource.RLIMIT_CORE)  # this process's own are its own


def test_sec_077_systemd_credential_is_read_and_one_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path, environ = tmp_path / "engine.master", {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    path.write_text(CANARY + "\n")
    path.chmod(0o400)
    assert resolve_secret("credential:engine.master", tmp_path, environ) == SECRET
    if os.geteuid() == 0:
        path.chmod(0o440)  # how the manager, who is root, opens its own file to the service
        assert resolve_secret("credential:engine.master", tmp_path, environ) == SECRET
    for attack, mode, given in (
        ("credential:engine.master", 0o444, environ),
        ("credential:engine.master", 0o400, {}),
        ("credential:../engine.master", 0o400, environ),
        ("credential:.hidden", 0o400, environ),
        ("credential:missing", 0o400, environ),
    ):
        path.chmod(mode)
        with pytest.raises(ConfigError) as caught:
            resolve_secret(attack, tmp_path, given)
        assert CANARY not in str(caught.value)


def test_canary_would_be_found() -> None:
    found = io.StringIO()
    print(SECRET.reveal(), file=found)
    assert CANARY in found.getvalue()
