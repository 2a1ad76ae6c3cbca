"""Imports that are kept out of the process, and can be had all the same."""

import importlib
import subprocess
import sys
from types import ModuleType

import pytest

from engine.runtime.imports import left_out, stood_in

# a module of the standard library that nothing here needs
SPARE = "antigravity"
PROGRAM = """
import json, sys
from engine.cli.root import program
program("run")
away = [name for name in ("twisted", "rich", "pygments", "opentelemetry", "autobahn") if name in sys.modules]
import kiteconnect
from kiteconnect import KiteTicker
print(json.dumps({"away": away, "ticker": KiteTicker.__module__, "same": kiteconnect.KiteTicker is KiteTicker}))
"""


def test_what_is_left_out_is_not_found_and_comes_back():
    with left_out("this", "sys"), pytest.raises(ImportError):
        importlib.import_module("this")
    assert "this" not in sys.modules
    # what is there already stays
    assert sys.modules["sys"] is sys


def test_it_comes_back_after_an_import_that_failed():
    with pytest.raises(ValueError, match="broken"), left_out(SPARE):
        raise ValueError("broken")
    assert SPARE not in sys.modules


def test_stand_in_is_taken_for_the_module_and_goes():
    stand_in = ModuleType(SPARE)
    with stood_in(SPARE, stand_in) as taken:
        assert taken
        assert importlib.import_module(SPARE) is stand_in
    assert SPARE not in sys.modules


def test_module_that_is_there_already_gets_no_stand_in():
    with stood_in("sys", ModuleType("sys")) as taken:
        assert not taken
        assert importlib.import_module("sys") is sys


def test_engine_runs_without_what_it_never_uses_and_the_package_keeps_its_ticker():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == '{"away": [], "ticker": "kiteconnect.ticker", "same": true}'
    assert done.stderr == ""
