"""SIGKILL at random times under load."""

from pathlib import Path

import pytest

from tests.crash.random_kills import storm
from tests.support.servers import TestServers

pytestmark = pytest.mark.crash


@pytest.mark.long
def test_random_kills_under_load_lose_and_double_none(
    tmp_path: Path, servers: TestServers, capsys: pytest.CaptureFixture[str]
) -> None:
    words, found = storm(tmp_path, servers, kills=3, seed=1, longest_s=2.5)
    with capsys.disabled():
        print(f"\nrandom kills: {words}")
    assert found == []
