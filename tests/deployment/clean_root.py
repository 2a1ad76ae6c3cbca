"""A plain Debian 12 with nothing installed, and the engine's one file in it, run as a person who is not root."""

import os
import shutil
import subprocess
import threading
from pathlib import Path
from typing import Any, Self

from tests.support.engine import EngineProcess

PERSON, UID = "trader", 4711
HOME = f"/home/{PERSON}"


class CleanRoot:
    """The root below *folder*; made by debootstrap unless it is there."""

    def __init__(self, folder: Path, *packages: str) -> None:
        self.folder = folder
        self._packages = packages

    def make(self) -> None:
        """Make the root and the person. Needs root, debootstrap, and what apt is set up with."""
        if not (self.folder / "bin" / "sh").exists():
            include = [f"--include={','.join(self._packages)}"] if self._packages else []
            command = ["debootstrap", "--variant=minbase", *include, "bookworm", str(self.folder)]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        if not (self.folder / "home" / PERSON).exists():
            self.run_as_root(f"useradd --create-home --uid {UID} --shell /bin/bash {PERSON}")
        if not os.path.ismount(self.folder / "proc"):
            subprocess.run(["mount", "-t", "proc", "proc", str(self.folder / "proc")], check=True)

    def close(self) -> None:
        """Let go of what was mounted."""
        subprocess.run(["umount", str(self.folder / "proc")], check=False)

    def install(self, file: Path) -> None:
        """Put the one file where commands are found."""
        shutil.copy(file, self.folder / "usr/local/bin/engine")

    def run_as_root(self, line: str) -> str:
        """Run a line of shell; return what it prints."""
        return self._run(["chroot", str(self.folder)], line)

    def run(self, line: str, **environment: str) -> str:
        """Run a line of shell as the person, at home; return what it prints, errors included."""
        return self._run(self._entered(environment), f"cd {HOME} && {line}")

    def command(self, environment: dict[str, str]) -> list[str]:
        """Return what runs the engine's file with the words that follow, at home, in place of itself."""
        return [*self._entered(environment), "sh", "-c", f'cd {HOME} && exec engine "$@"', "engine"]

    def _entered(self, environment: dict[str, str]) -> list[str]:
        person = ["chroot", f"--userspec={UID}:{UID}", str(self.folder), "/usr/bin/env", "-i"]
        base = {"HOME": HOME, "PATH": "/usr/local/bin:/usr/bin:/bin"}
        return [*person, *(f"{name}={value}" for name, value in (base | environment).items())]

    def _run(self, entered: list[str], line: str) -> str:
        done = subprocess.run(
            [*entered, "sh", "-c", line], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=240
        )
        if done.returncode != 0:
            raise RuntimeError(f"{line}: exit {done.returncode}: {done.stdout}")
        return done.stdout


class RootedEngine(EngineProcess):
    """The engine of a clean root, spoken to from outside; ``environment`` is all that it is given."""

    def __init__(self, root: CleanRoot, *arguments: str, **environment: str) -> None:
        super().__init__(root.folder / HOME.lstrip("/"), *arguments)
        self._root = root
        self._given: dict[str, Any] = environment

    def start(self, *, wait: bool = True) -> Self:
        """Start the one file and wait for its ready line."""
        self._ready.clear()
        self.base_url, self._token = "", ""
        self.process = subprocess.Popen(
            [*self._root.command(self._given), "run", "--port", "0", *self._arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        pipes = ((self.process.stdout, self.lines), (self.process.stderr, self.errors))
        self._threads = [threading.Thread(target=self._read, args=each, daemon=True) for each in pipes]
        for thread in self._threads:
            thread.start()
        if wait:
            self.wait_ready()
        return self
