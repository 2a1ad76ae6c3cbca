"""A short run of the ambiguity machine; the long one is ``python -m tests.faults.ambiguity --orders 20000``."""

from pathlib import Path

import pytest

from tests.faults import ambiguity
from tests.support.fault_engines import fault_rig
from tests.support.servers import TestServers

pytestmark = pytest.mark.crash

ORDERS, SEED = 150, 1


def test_one_ambiguous_reply_in_ten_doubles_none_and_loses_none(tmp_path: Path, servers: TestServers) -> None:
    redis_url = f"{servers.redis_url}?db=13"
    servers.flush(redis_url)
    with fault_rig(tmp_path, servers, "ambiguity", redis_url) as rig:
        ends = ambiguity.run(rig, ORDERS, SEED, within_s=60)
    assert ends.total() == ORDERS
    assert sum(count for name, count in ends.items() if name.startswith("ambiguous")) >= ORDERS // 20
