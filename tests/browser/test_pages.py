"""The pages for people in a real browser, in a process of their own.

Playwright's driver keeps an asyncio loop in the thread that uses it; in the tests' own process that would be in the
way of trio.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.browser.conftest import NAMES

FOLDER = Path(__file__).parent


@pytest.mark.parametrize(
    ("module", "tests"),
    [("pages.py", 4), ("console_pages.py", 8), ("trading_pages.py", 6), ("settings_pages.py", 9)],
)
def test_pages_for_people_work_in_a_real_browser(module: str, tests: int) -> None:
    if not any(map(shutil.which, NAMES)):
        pytest.skip("no chromium on this machine: apt-get install chromium")
    command = [sys.executable, "-m", "pytest", "-n0", "-q", "-p", "no:cacheprovider", str(FOLDER / module)]
    done = subprocess.run(command, cwd=FOLDER.parents[1], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{tests} passed" in done.stdout, done.stdout
