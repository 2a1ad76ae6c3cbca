import os
import subprocess
import sys

import pytest

from engine.runtime import holder

SLEEP = (sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)")


@pytest.fixture
def sleeper():
    process = subprocess.Popen(SLEEP, stdout=subprocess.PIPE)
    process.stdout.readline()
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def name_of(process, **changes):
    own = holder.own_name().split("|")
    parts = {"host": own[0], "boot": own[1], "namespace": own[2], "process": str(process.pid)}
    parts |= {"started": holder.started_at(process.pid)} | changes
    return "|".join(parts.values())


def test_own_name_is_that_of_a_living_process_here():
    named = holder.read(holder.own_name())
    assert named.process == os.getpid()
    assert named.is_here
    assert not named.is_dead
    assert holder.told(holder.own_name()) == f"process {os.getpid()} on {named.host}"


@pytest.mark.parametrize("name", ["", "garbage", "a|b|c|x|1", "a|b|c|1", "a|b|c|1|2|3", "a|b|c|-1|2"])
def test_name_that_names_nothing_is_told_as_it_is_and_ends_nothing(name):
    assert holder.read(name) is None
    assert holder.told(name) == (name or "?")
    assert not holder.end(name)


def test_ending_a_stopped_process_ends_it(sleeper):
    os.kill(sleeper.pid, 19)
    assert holder.end(name_of(sleeper))
    assert sleeper.wait(10) == -9


@pytest.mark.parametrize("changes", [{"started": "1"}, {"host": "far"}, {"boot": "b"}, {"namespace": "pid:[1]"}])
def test_process_that_only_bears_the_number_is_not_ended(sleeper, changes):
    assert not holder.end(name_of(sleeper, **changes))
    assert sleeper.poll() is None


def test_one_that_has_ended_and_oneself_are_not_ended(sleeper):
    name = name_of(sleeper)
    sleeper.kill()
    sleeper.wait()
    assert holder.is_dead(name)
    assert not holder.end(name)
    assert not holder.end(holder.own_name())
