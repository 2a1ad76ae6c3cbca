"""The launcher: what the server process may do once root is given up, and when it refuses."""

import json
import os
import pwd
import signal
import subprocess
import sys

import pytest

from engine.embedded import launch

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has something to give up")
NOBODY = pwd.getpwnam("nobody")


def run_launcher(*, before=(), **order):
    whole = {"parent": os.getpid(), "death_signal": int(signal.SIGTERM), "programs": [], "paths": []} | order
    return subprocess.run(
        [*before, sys.executable, "-I", "-S", launch.__file__, json.dumps(whole)],
        capture_output=True,
        text=True,
        timeout=20,
    )


def status_as_nobody(paths, *, programs=(), may_keep_capability=True):
    done = run_launcher(
        argv=["/bin/cat", "/proc/self/status"],
        uid=NOBODY.pw_uid,
        gid=NOBODY.pw_gid,
        may_keep_capability=may_keep_capability,
        paths=[str(path) for path in paths],
        programs=[str(path) for path in programs],
    )
    fields = dict(line.split(":", 1) for line in done.stdout.splitlines())
    return done, {key: value.split() for key, value in fields.items()}


@pytest.fixture
def locked_file(tmp_path):
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o700)
    file = folder / "readable"
    file.write_text("x")
    file.chmod(0o644)
    return file


@needs_root
def test_launch_reachable_paths_keeps_no_capability():
    _, status = status_as_nobody(["/bin/cat"])
    assert status["Uid"] == [str(NOBODY.pw_uid)] * 4
    assert status["Gid"] == [str(NOBODY.pw_gid)] * 4
    assert status["Groups"] == []
    assert int(status["CapEff"][0], 16) == int(status["CapAmb"][0], 16) == int(status["CapPrm"][0], 16) == 0
    assert status["NoNewPrivs"] == ["1"]


@needs_root
def test_launch_path_below_locked_folder_keeps_one_capability_only(locked_file):
    _, status = status_as_nobody([locked_file])
    assert status["Uid"] == [str(NOBODY.pw_uid)] * 4
    assert status["CapEff"] == status["CapPrm"] == status["CapAmb"]
    assert int(status["CapEff"][0], 16) in (1 << 1, 1 << 2)
    assert locked_file.parent.stat().st_mode & 0o777 == 0o700


@needs_root
def test_launch_program_of_root_alone_is_executable_as_access_sees_it(locked_file):
    locked_file.chmod(0o700)
    _, status = status_as_nobody([], programs=[locked_file])
    assert status["Uid"] == [str(NOBODY.pw_uid)] * 4
    assert int(status["CapEff"][0], 16) == 1 << 1


@needs_root
def test_launch_root_that_may_not_change_uid_refuses():
    drop = ["setpriv", "--bounding-set", "-setuid"]
    order = {"uid": NOBODY.pw_uid, "gid": NOBODY.pw_gid, "may_keep_capability": True}
    done = run_launcher(argv=["/bin/true"], before=drop, **order)
    assert done.returncode == launch.LAUNCH_FAILED
    assert done.stderr == f"launch: this root may not become uid {NOBODY.pw_uid}\n"


@needs_root
def test_launch_path_out_of_reach_of_a_person_refuses(locked_file):
    done, _ = status_as_nobody([locked_file], may_keep_capability=False)
    assert done.returncode == launch.LAUNCH_FAILED
    assert done.stderr == f"launch: uid {NOBODY.pw_uid} cannot reach {locked_file}\n"


def test_launch_parent_gone_refuses():
    done = run_launcher(argv=["/bin/true"], parent=os.getpid() + 1)
    assert done.returncode == launch.LAUNCH_FAILED
    assert "the engine is gone" in done.stderr


def test_launch_missing_program_refuses(tmp_path):
    done = run_launcher(argv=[str(tmp_path / "absent")])
    assert done.returncode == launch.LAUNCH_FAILED
    assert "No such file" in done.stderr


def test_launch_umask_keeps_files_private(tmp_path):
    made = tmp_path / "made"
    assert run_launcher(argv=["/usr/bin/env", "touch", str(made)]).returncode == 0
    assert made.stat().st_mode & 0o777 == 0o600
