"""Crash points are out of reach in production: the engine installs no hook, and no setting leads to one."""

import ast
import subprocess
import sys
from pathlib import Path

import engine
from engine.runtime.crashpoint import POINTS

SOURCE = Path(engine.__file__).parent
OWN = SOURCE / "runtime" / "crashpoint.py"


def test_sec_102_the_engine_takes_from_the_module_nothing_but_the_passing_of_points() -> None:
    for path in SOURCE.rglob("*.py"):
        text = path.read_text()
        if path == OWN or "crashpoint" not in text:
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom) and node.module == "engine.runtime.crashpoint":
                assert [(name.name, name.asname) for name in node.names] == [("crashpoint", None)], path
            elif isinstance(node, ast.ImportFrom) and node.module == "engine.runtime":
                assert "crashpoint" not in [name.name for name in node.names], path
            elif isinstance(node, ast.Import):
                assert "engine.runtime.crashpoint" not in [name.name for name in node.names], path
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert "engine.runtime.crashpoint" not in node.value, f"{path}: named in a string"


def test_sec_102_a_point_is_one_test_of_one_variable() -> None:
    (function,) = [
        node
        for node in ast.parse(OWN.read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name == "crashpoint"
    ]
    _, only = function.body
    assert ast.unparse(only) == "if _hook is not None:\n    _hook(name)"


def test_sec_102_the_module_reads_no_environment_and_imports_nothing_that_could() -> None:
    imports = [node for node in ast.parse(OWN.read_text()).body if isinstance(node, ast.Import | ast.ImportFrom)]
    assert [ast.unparse(node) for node in imports] == ["from collections.abc import Callable"]


def test_sec_102_no_environment_variable_arms_a_point() -> None:
    names = ("CRASHPOINT", "CRASH_POINT", "CRASH", "ENGINE_CRASHPOINT", "ENGINE__CRASHPOINT", "ENGINE_CRASH_PLAN")
    program = (
        "from engine.runtime import crashpoint as module\n"
        "import engine.app, engine.cli\n"
        "for name in sorted(module.POINTS): module.crashpoint(name)\n"
        "print(module._hook, len(module.POINTS))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=SOURCE.parent,
        env={"PATH": "/usr/bin:/bin", "PYTHONWARNINGS": "ignore", **dict.fromkeys(names, "S5.after_commit")},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (0, f"None {len(POINTS)}\n"), done.stderr


def test_sec_102_no_option_or_setting_names_a_crash_point() -> None:
    for folder in ("cli", "config"):
        for path in (SOURCE / folder).rglob("*.py"):
            assert "crash" not in path.read_text().lower(), path
