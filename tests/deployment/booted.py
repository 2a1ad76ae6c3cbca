"""``python -m tests.deployment.booted --file FILE``: the unit of ``engine ops`` under a real systemd, sandbox and all.

Boots a Debian 12 in a container (systemd-nspawn; needs root, debootstrap and systemd-container), installs the one file
as the unit's comment says, and looks: ready, a filled signal, the sandbox, doctor, an engine that
hangs (SIGSTOP) ended by the watchdog and back, ``kill -9`` and back, a clean stop. A line for each, with its seconds.
"""

import argparse
import contextlib
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path

import httpx

from tests.deployment.__main__ import paste, step
from tests.support.engine import PASSWORD
from tests.support.ports import free_port

_SETUP = """set -e
engine --unpack
useradd --system --home-dir /var/lib/engine --shell /usr/sbin/nologin engine
install -d -m 0750 -g engine /etc/engine && install -d -m 0700 /etc/engine/keys
cd /etc/engine && engine init --yes
chgrp engine engine.toml && chmod 0640 engine.toml
"""
# as the unit says; the container has a /proc/sys of its own, so that a command has to see what the unit does
_AS_SERVICE = (
    "systemd-run --pipe --wait --collect --quiet -p ProtectKernelTunables=yes -p User=engine "
    "-p WorkingDirectory=/var/lib/engine -p LoadCredential=master.key:/etc/engine/keys/master.key "
    "-p LoadCredential=jwt.key:/etc/engine/keys/jwt.key -E ENGINE__SECURITY__MASTER_KEY=credential:master.key "
    "-E ENGINE__SECURITY__JWT_SECRET=credential:jwt.key "
)
_TAIL = " --config /etc/engine/engine.toml --data-dir /var/lib/engine/data"


class Booted:
    """A container with a systemd of its own; *run* is a command in it."""

    def __init__(self, root: Path) -> None:
        self._process = subprocess.Popen(
            ["systemd-nspawn", "-q", "-D", str(root), "--boot", "--register=no", "--keep-unit"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._leader = ""

    def up(self) -> None:
        """Wait until its systemd is."""

        def is_up() -> bool:
            found = subprocess.run(
                ["pgrep", "-P", str(self._process.pid)], capture_output=True, text=True
            ).stdout.split()
            self._leader = found[0] if found else ""
            return bool(self._leader) and self.run("systemctl is-system-running", check=False).strip() in (
                "running",
                "degraded",
            )

        wait(is_up, 60)

    def run(self, line: str, *, check: bool = True) -> str:
        """Run a line of shell as root; return what it prints."""
        entered = ["nsenter", "-t", self._leader, "-a", "sh", "-c", line]
        done = subprocess.run(entered, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=240)
        if check and done.returncode != 0:
            raise RuntimeError(f"{line}: exit {done.returncode}: {done.stdout}")
        return done.stdout

    def shown(self, name: str) -> str:
        """Return a property of the service."""
        return self.run(f"systemctl show engine -p {name} --value").strip()

    def close(self) -> None:
        """Power it off."""
        with contextlib.suppress(RuntimeError):
            self.run("systemctl poweroff")
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(5)


def wait(look: Callable[[], bool], within_s: float) -> None:
    """Wait until *look* is true."""
    deadline = time.monotonic() + within_s
    while not look():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.25)


def prepare(root: Path, file: Path, port: int) -> None:
    """Install the engine as the unit says, and a drop-in with what this test needs."""
    if not (root / "bin" / "sh").exists():
        include = "--include=systemd,systemd-sysv,dbus,procps"
        command = ["debootstrap", "--variant=minbase", include, "bookworm", str(root)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    shutil.copy(file, root / "usr/local/bin/engine")
    units = root / "etc/systemd/system"
    unit = resources.files("engine.ops").joinpath("deploy/engine.service").read_text(encoding="utf-8")
    (units / "engine.service").write_text(unit)
    (units / "engine.service.d").mkdir(exist_ok=True)
    (units / "engine.service.d" / "test.conf").write_text(
        f'[Service]\nWatchdogSec=6\nEnvironment=ENGINE__SERVER__PORT={port} "ENGINE_ADMIN_PASSWORD={PASSWORD}"\n'
    )
    with mounted_proc(root):
        chroot = ["chroot", str(root), "sh", "-c"]
        clean = "rm -rf /etc/engine /var/lib/engine /var/cache/engine /usr/local/lib/engine; userdel engine; true"
        subprocess.run([*chroot, clean], check=True, capture_output=True)
        subprocess.run([*chroot, _SETUP], check=True, capture_output=True)


@contextlib.contextmanager
def mounted_proc(root: Path) -> Iterator[None]:
    """Have /proc in *root* meanwhile."""
    subprocess.run(["mount", "-t", "proc", "proc", str(root / "proc")], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(root / "proc")], check=True)


def walk(box: Booted, port: int) -> None:
    """Look at everything that the unit promises."""
    with step("systemctl start to READY") as noted:
        box.run("systemctl start engine")
        noted.append(box.shown("StatusText"))
    with step("a signal fills"):
        line = box.run("journalctl -u engine -o cat --no-pager | grep '^curl ' | tail -1")
        answer = paste(line)
        assert answer.status_code in (200, 202), answer.text
        api = f"http://127.0.0.1:{port}/api/v1"
        login = httpx.post(f"{api}/auth/login", json={"email": "admin@localhost", "password": PASSWORD}, timeout=10)
        bearer = {"Authorization": f"Bearer {login.json()['data']['accessToken']}"}
        wait(lambda: httpx.get(f"{api}/executions/positions", headers=bearer, timeout=10).json()["data"] != [], 20)
    with step("sandbox of the running process") as noted:
        status = box.run(f"cat /proc/{box.shown('MainPID')}/status")
        kept = {name: value.strip() for name, _, value in (line.partition(":") for line in status.splitlines())}
        assert (kept["NoNewPrivs"], kept["Seccomp"], int(kept["CapBnd"], 16)) == ("1", "2", 0)
        noted.append("no new privileges, system calls filtered, no capabilities")
    with step("doctor, as the service"):
        box.run(f"{_AS_SERVICE} /usr/local/bin/engine doctor {_TAIL}")
    with step("an engine that hangs is ended by the watchdog (6 s here) and comes back") as noted:
        before = box.shown("MainPID")
        box.run(f"kill -STOP {before}")
        wait(lambda: box.shown("MainPID") not in (before, "0") and box.shown("ActiveState") == "active", 90)
        noted.append(f"restarts {box.shown('NRestarts')}")
    with step("kill -9, and it comes back") as noted:
        before = box.shown("MainPID")
        box.run(f"kill -9 {before}")
        wait(lambda: box.shown("MainPID") not in (before, "0") and box.shown("ActiveState") == "active", 90)
        noted.append(f"restarts {box.shown('NRestarts')}")
    with step("systemctl stop") as noted:
        box.run("systemctl stop engine")
        assert (box.shown("Result"), box.shown("ExecMainStatus")) == ("success", "0")
        left = box.run("pgrep -u engine -l; true").split()
        assert not left, left
        noted.append("exit 0, no process left")


def main() -> None:
    """Prepare, boot, walk."""
    parser = argparse.ArgumentParser(prog="python -m tests.deployment.booted", description=__doc__)
    parser.add_argument("--file", type=Path, required=True, help="the one file")
    parser.add_argument("--root", type=Path, help="a root to use, made if it is not there; it stays")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="engine-booted-", dir="/var/tmp") as scratch:
        root, port = given.root or Path(scratch) / "root", free_port()
        with step("a Debian 12 with systemd, and the engine in it"):
            prepare(root, given.file, port)
        box = Booted(root)
        try:
            with step("boot"):
                box.up()
            walk(box, port)
        finally:
            box.close()
    print("booted: PASS")


if __name__ == "__main__":
    main()
