"""``python -m tests.deployment``: the one file on a plain Debian 12, from nothing to a filled order and past a kill.

Builds the file (or takes ``--file``), makes a root with debootstrap (or takes ``--root``, which stays), and does there
what a new user would, as a person who is not root. Needs root for chroot. Prints a line for each step with its seconds;
exits 1 at the first that goes wrong. Times are printed, not judged.
"""

import argparse
import hashlib
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.deployment.clean_root import HOME, CleanRoot, RootedEngine
from tests.support.engine import PASSWORD


@contextmanager
def step(name: str) -> Iterator[list[str]]:
    """Time what is done, and print it with what it noted."""
    noted: list[str] = []
    began = time.monotonic()
    yield noted
    print(f"{time.monotonic() - began:6.1f} s  {name}{': ' if noted else ''}{'; '.join(noted)}", flush=True)


def paste(line: str) -> httpx.Response:
    """Send what the printed ``curl`` line says; neither this machine nor the root needs curl."""
    words = shlex.split(line)
    headers = dict(words[at + 1].split(": ", 1) for at, word in enumerate(words) if word == "-H")
    (body,) = [
        words[at + 1] for at, word in enumerate(words) if word in ("-d", "--data", "--data-raw", "--data-binary")
    ]
    (url,) = [word for word in words if word.startswith("http")]
    return httpx.post(url, content=body.encode(), headers=headers, timeout=15)


def held(engine: RootedEngine) -> int:
    """Return how much INFY the paper account holds."""
    rows = engine.get("/executions/positions")
    return sum(row["quantity"] for row in rows if row["symbol"] == "INFY")


def walk(root: CleanRoot, engine: RootedEngine) -> None:
    """Do what a new user would, and what goes wrong on a bad day."""
    lacking = root.run("for word in python3 curl psql valkey-server gcc; do command -v $word; done; true").split()
    assert not lacking, f"not a clean root: {lacking}"
    with step("first command, which unpacks once") as noted:
        noted.append(root.run("engine version").strip().splitlines()[-1])
        noted.append(root.run("du -sm .cache/engine/*").split()[0] + " MB unpacked")
    with step("the same command again") as noted:
        noted.append(root.run("engine version").strip())
    with step("engine run to ready, first start"):
        engine.start()
    with step("the printed curl line's signal is filled") as noted:
        answer = paste(next(line for line in engine.lines if line.startswith("curl ")))
        assert answer.status_code in (200, 202), answer.text
        engine.wait_for("the fill", lambda: held(engine) == 10)
        noted.append("10 INFY held")
    with step("doctor, kill switch, audit, backup beside the running engine"):
        # an engine of its own user may change its own code: that is the one thing a doctor minds here
        assert "FAIL" not in root.run("engine doctor"), root.run("engine doctor")
        root.run("engine killswitch on --mode BLOCK --reason rehearsal")
        assert "ON" in root.run("engine killswitch status")
        root.run("engine killswitch off --reason rehearsed --force")
        assert "the chain is whole" in root.run("engine audit verify")
        root.run("rm -f first.backup && engine backup first.backup && engine backup first.backup --verify")
    with step("kill -9"):
        engine.kill()
    with step("engine run to ready, after kill -9"):
        engine.start()
    assert held(engine) == 10
    with step("flatten through the engine"):
        root.run("engine flatten --all --yes")
        assert held(engine) == 0
        # what was flattened stays blocked until somebody lets it go on, and a doctor minds that
        root.run("engine killswitch off --reason rehearsed --force")
    with step("SIGTERM") as noted:
        code = engine.stop()
        noted.append(f"exit {code}")
        assert code == 0
    with step("the backup restored into another folder") as noted:
        root.run(f"rm -rf {HOME}/new && mkdir -p new && cp -r .engine/keys new/keys")
        noted.append(root.run("engine restore first.backup --data-dir new").strip().splitlines()[-5][:60])
    with step("kill drill: an engine, stores and exchange started out of the file") as noted:
        noted.append(root.run("engine drill --orders 20 --positions 3").strip().splitlines()[-1])
    with step("exchange alone"):
        shown = root.run("timeout -s TERM 4 engine exchange --port 0; true")
        assert re.search(r"api_key", shown), shown
    with step("unpacked by root for everybody") as noted:
        noted.append(root.run_as_root("engine --unpack").strip().splitlines()[-1])
        root.run("rm -rf .cache && engine version && test ! -e .cache", HOME="/nonexistent")
        assert "may not change the engine's code" in root.run("engine doctor")
        root.run_as_root("rm -rf /usr/local/lib/engine")
    with step("a damaged file is refused") as noted:
        root.run_as_root("cp /usr/local/bin/engine /tmp/bad && printf x >> /tmp/bad && chmod 755 /tmp/bad")
        noted.append(root.run("/tmp/bad version 2>&1 | tail -1; rm -rf .cache").strip())
        assert "damaged" in noted[0]


def main() -> None:
    """Build, make the root, walk."""
    parser = argparse.ArgumentParser(prog="python -m tests.deployment", description=__doc__)
    parser.add_argument("--file", type=Path, help="the one file; built unless given")
    parser.add_argument("--root", type=Path, help="a root to use, made if it is not there; it stays")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="engine-deployment-", dir="/var/tmp") as scratch:
        file = given.file
        if file is None:
            with step("one file built"):
                command = [sys.executable, "-m", "engine.packaging", "--output", scratch]
                subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            (file,) = Path(scratch).glob("engine-*-linux-*")
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        print(f"{file.name}: {file.stat().st_size / 1e6:.1f} MB, sha256 {digest}", flush=True)
        root = CleanRoot(given.root or Path(scratch) / "root")
        with step("debootstrap, minbase"):
            root.make()
        engine = RootedEngine(root, ENGINE_ADMIN_PASSWORD=PASSWORD)
        try:
            root.install(file)
            root.run(f"rm -rf {HOME}/.engine {HOME}/.cache {HOME}/logs")
            walk(root, engine)
        finally:
            engine.kill()
            root.close()
    print("deployment: PASS")


if __name__ == "__main__":
    main()
