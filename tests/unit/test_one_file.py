"""The script in front of the one file, around an engine that only says how it was started; and how it starts itself."""

import os
import subprocess
import sys

import pytest

from engine.packaging.__main__ import pack
from engine.runtime import own_program

SAYS = '#!/bin/sh\necho "ran $*"\n'


@pytest.fixture(scope="module")
def one_file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundle")
    program = folder / "engine"
    program.write_text(SAYS)
    program.chmod(0o755)
    (folder / "_internal").mkdir()
    (folder / "_internal" / "data").write_text("x" * 1000)
    return pack(folder, tmp_path_factory.mktemp("dist"))


def run(file, *words, **environment):
    environment = {"PATH": os.environ["PATH"], "ENGINE_UNPACKED": ""} | environment
    return subprocess.run([file, *words], env=environment, capture_output=True, text=True, timeout=30)


def test_first_start_unpacks_once_and_later_ones_run_what_is_there(one_file, tmp_path):
    first, second = (run(one_file, "run", "--port", "0", HOME=str(tmp_path)) for _ in range(2))
    assert first.stdout == second.stdout == "ran run --port 0\n"
    assert "unpacking" in first.stderr
    assert second.stderr == ""
    (kept,) = (tmp_path / ".cache" / "engine").iterdir()
    assert kept.stat().st_mode & 0o777 == 0o755


def test_same_folder_gives_the_same_file_byte_by_byte(one_file, tmp_path):
    folder = tmp_path / "bundle"
    (folder / "_internal").mkdir(parents=True)
    (folder / "_internal" / "data").write_text("x" * 1000)
    (folder / "engine").write_text(SAYS)
    (folder / "engine").chmod(0o700)
    (tmp_path / "dist").mkdir()
    assert pack(folder, tmp_path / "dist").read_bytes() == one_file.read_bytes()


def test_damaged_file_runs_nothing_and_leaves_nothing(one_file, tmp_path):
    damaged = tmp_path / "engine"
    damaged.write_bytes(one_file.read_bytes()[:-1] + b"x")
    damaged.chmod(0o755)
    done = run(damaged, "run", HOME=str(tmp_path))
    assert (done.returncode, done.stdout) == (1, "")
    assert "is damaged" in done.stderr
    assert list((tmp_path / ".cache" / "engine").iterdir()) == []


def test_unpacked_folder_that_others_may_change_is_not_run(one_file, tmp_path):
    run(one_file, HOME=str(tmp_path))
    (kept,) = (tmp_path / ".cache" / "engine").iterdir()
    (kept / "engine").write_text("#!/bin/sh\necho stolen\n")
    kept.chmod(0o777)
    done = run(one_file, "run", HOME=str(tmp_path))
    assert done.stdout == "ran run\n"
    assert "unpacking" in done.stderr


def test_start_that_was_killed_while_unpacking_is_made_up_for(one_file, tmp_path):
    run(one_file, HOME=str(tmp_path))
    (kept,) = (tmp_path / ".cache" / "engine").iterdir()
    (kept / ".complete").unlink()
    (kept / "engine").write_text("half of it")
    assert run(one_file, "run", HOME=str(tmp_path)).stdout == "ran run\n"


def test_unpacked_for_everybody_is_used_without_a_home(one_file, tmp_path):
    told = run(one_file, "--unpack", str(tmp_path / "lib"))
    assert told.returncode == 0, told.stderr
    done = run(one_file, "run", ENGINE_UNPACKED=str(tmp_path / "lib"))
    assert (done.stdout, done.stderr) == ("ran run\n", "")
    lost = run(one_file, "run")
    assert lost.returncode == 1
    assert "ENGINE_UNPACKED" in lost.stderr


def test_one_file_starts_itself_by_words_of_its_own(monkeypatch):
    assert own_program.launcher("/x/launch.py", "{}")[1:] == ["-I", "-S", "/x/launch.py", "{}"]
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    assert own_program.launcher("/x/launch.py", "{}") == [sys.executable, own_program.LAUNCH, "{}"]
    assert own_program.engine_command(("drill", "--json"), niceness=5)[1:] == [
        own_program.CHILD,
        "5",
        "drill",
        "--json",
    ]


def test_engine_starts_the_package_that_it_was_started_from_and_no_other_of_this_python(tmp_path):
    folder = tmp_path / "engine" / "cli"
    folder.mkdir(parents=True)
    for package in (folder.parent, folder):
        (package / "__init__.py").touch()
    (folder / "root.py").write_text("def main():\n    print('another copy')\n")
    command = own_program.engine_command(("version",))
    command[4] = str(tmp_path)
    done = subprocess.run(command, cwd="/", capture_output=True, text=True, timeout=30)
    assert done.stdout == "another copy\n", done.stderr


@pytest.mark.parametrize(
    ("line", "word", "wanted"),
    [("engine k", 1, {"keys", "killswitch"}), ("engine killswitch o", 2, {"on", "off"})],
)
def test_shell_completes_commands_and_their_own(line, word, wanted):
    environment = os.environ | {"_ENGINE_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(word)}
    done = subprocess.run([sys.executable, "-m", "engine"], env=environment, capture_output=True, text=True, timeout=30)
    assert set(done.stdout.split()) == wanted, done.stderr
