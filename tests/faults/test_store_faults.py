"""The stores away, hung, wiped, full, slow or corrupt under load (reliability.md F10 to F22), on real processes.

One engine lives through most of it. Under every fault: what was accepted ends exactly once, what was
refused never executes, the engine does not end, and it comes back by itself.
"""

import errno
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
import redis

from engine.journal import keys
from tests.support.store_stand import StoreStand
from tests.support.trio_thread import TrioThread

pytestmark = pytest.mark.crash


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoreStand]:
    # the sockets' paths must be short
    folder = tmp_path_factory.mktemp("st")
    with (
        TrioThread() as thread,
        StoreStand(folder, thread, max_connections="24", deadlock_timeout="2s").running() as running,
    ):
        yield running


Report = Callable[[str, object], None]


@pytest.fixture
def report(request: pytest.FixtureRequest, record_property: Report) -> Report:
    """Tell a figure: printed (``pytest -s``) and kept in the report; never asserted."""

    def tell(name: str, value: object) -> None:
        record_property(name, str(value))
        print(f"{request.node.name}: {name}: {value}")

    return tell


def block(stand: StoreStand) -> float:
    """Switch the kill switch of the whole engine on; return the seconds that it took."""
    began = time.monotonic()
    answer = stand.engine.request(
        "POST", "/risk/killswitch/enable", json={"scope": "global", "reason": "a test", "squareOff": False}
    )
    assert answer.status_code == 200, answer.text
    return time.monotonic() - began


def release(stand: StoreStand) -> None:
    answer = stand.engine.request(
        "POST", "/risk/killswitch/disable", json={"scope": "global", "reason": "a test", "force": True}
    )
    assert answer.status_code == 200, answer.text


# the journal's server: F10 to F16


def killed(stand: StoreStand) -> Callable[[], None]:
    stand.valkey.kill()
    return lambda: stand.valkey.start() and None


def frozen(stand: StoreStand) -> Callable[[], None]:
    stand.valkey.freeze()
    return stand.valkey.thaw


def half_open(stand: StoreStand) -> Callable[[], None]:
    stand.valkey_proxy.faults.black_hole = True
    stand.valkey_proxy.half_open()

    def mend() -> None:
        stand.valkey_proxy.faults.black_hole = False
        stand.valkey_proxy.reset_all()

    return mend


def shut_down(stand: StoreStand) -> Callable[[], None]:
    with stand.valkey.client() as client:
        client.shutdown(nosave=True)
    stand.valkey.await_end()
    return lambda: stand.valkey.start() and None


def out_of_memory(stand: StoreStand) -> Callable[[], None]:
    with stand.valkey.client() as client:
        client.config_set("maxmemory", "1mb")

    def mend() -> None:
        with stand.valkey.client() as client:
            assert client.info("stats")["evicted_keys"] == 0
            client.config_set("maxmemory", "64mb")

    return mend


def read_only(stand: StoreStand) -> Callable[[], None]:
    with stand.valkey.client() as client:
        client.replicaof("127.0.0.1", "1")

    def mend() -> None:
        with stand.valkey.client() as client:
            client.replicaof("NO", "ONE")

    return mend


def answers(words: bytes) -> Callable[[StoreStand], Callable[[], None]]:
    def fault(stand: StoreStand) -> Callable[[], None]:
        stand.valkey_proxy.faults.answer_with = words

        def mend() -> None:
            stand.valkey_proxy.faults.answer_with = None

        return mend

    fault.__name__ = words.split()[0][1:].decode().lower()
    return fault


loading = answers(b"-LOADING Valkey is loading the dataset in memory\r\n")
disk_error = answers(b"-MISCONF Errors writing to the AOF file: No space left on device\r\n")


def busy(stand: StoreStand) -> Callable[[], None]:
    client = stand.valkey.client(socket_timeout=0.2)
    with client:
        client.config_set("busy-reply-threshold", "1")
        try:
            client.eval("while true do end", 0)
        except redis.exceptions.TimeoutError:
            pass  # it runs on

    def mend() -> None:
        with stand.valkey.client() as other:
            other.script_kill()

    return mend


JOURNAL_FAULTS = (killed, frozen, half_open, shut_down, out_of_memory, read_only, busy, loading, disk_error)


@pytest.mark.parametrize("fault", JOURNAL_FAULTS, ids=lambda fault: fault.__name__)
def test_journal_that_fails_loses_nothing_and_accepting_goes_on(
    stand: StoreStand, report: Report, fault: Callable[[StoreStand], Callable[[], None]]
) -> None:
    with stand.load() as load:
        mend = fault(stand)
        seconds = stand.until("the journal counting as down", stand.journal_is(False))
        report("counted as down after ms", round(seconds * 1e3))
        before = len(load.accepted)
        stand.engine.wait_for("signals being accepted without it", lambda: len(load.accepted) > before + 20)
        assert [each.status for each in load.refused] == []
        mend()
        back = stand.until("the journal counting as up", stand.journal_is(True))
        report("back after ms", round(back * 1e3))
    report("load", load)
    assert stand.check(load) == {"EXECUTED": len(load.accepted)}, stand.reasons


def test_wiped_journal_is_noticed_and_nothing_accepted_is_lost_or_repeated(stand: StoreStand, report: Report) -> None:
    with stand.load() as load:
        for _ in range(3):
            before = len(load.accepted)
            with stand.valkey.client() as client:
                client.flushall()
                stand.engine.wait_for("signals after the wipe", lambda before=before: len(load.accepted) > before + 10)
                stand.until("the journal bearing its name again", lambda client=client: client.exists(keys.EPOCH))
    report("load", load)
    assert [each.status for each in load.refused] == []
    assert stand.check(load) == {"EXECUTED": len(load.accepted)}, stand.reasons


def test_corrupt_journal_file_keeps_the_server_down_and_trading_goes_on(stand: StoreStand) -> None:
    with stand.load() as load:
        stand.valkey.kill()
        restore = stand.valkey.corrupt()
        assert stand.valkey.refuses_to_start(), "a server with a corrupt file must not start"
        before = len(load.accepted)
        stand.engine.wait_for("signals being accepted without it", lambda: len(load.accepted) > before + 20)
        restore()
        stand.valkey.start()
        stand.until("the journal counting as up", stand.journal_is(True))
    assert stand.check(load) == {"EXECUTED": len(load.accepted)}, stand.reasons


# the ledger's server: F17 to F22


def test_nothing_is_sent_while_the_ledger_is_stopped_and_fresh_signals_go_when_it_is_back(
    stand: StoreStand, report: Report
) -> None:
    with stand.load() as load:
        stand.postgres.end(signal.SIGQUIT)
        down_at = datetime.now(UTC)  # noqa: TID251 -- the record's own clock
        before = len(load.accepted)
        stand.engine.wait_for("signals being journalled", lambda: len(load.accepted) > before + 20)
        time.sleep(2)  # an outage of some length is what this is about
        still_down_at = datetime.now(UTC)  # noqa: TID251
        stand.postgres.start()
        stand.whole()
    placed = [e.at for e in stand.exchange.places() if down_at < e.at < still_down_at]
    # what was written ahead before the stop may go within the send window of a second
    assert [at for at in placed if (at - down_at).total_seconds() > 1.2] == []
    ends = stand.check(load)
    report("ends", dict(ends))
    assert ends == {"EXECUTED": len(load.accepted)}, stand.reasons


def test_both_stores_away_accepts_nothing_and_the_kill_switch_works(stand: StoreStand, report: Report) -> None:
    with stand.load() as load:
        with stand.postgres_proxy.away(), stand.valkey_proxy.away():
            stand.until("the journal counting as down", stand.journal_is(False))
            refused = stand.send()
            assert refused.status == 503
            load.sent.append(refused)
            report("kill switch with both away, ms", round(block(stand) * 1e3))
        stand.whole()
        release(stand)
    report("load", load)
    stand.check(load)


def test_lost_answers_of_commits_double_nothing_and_lose_nothing(stand: StoreStand, report: Report) -> None:
    proxy = stand.postgres_proxy.faults
    proxy.of = b"trading-engine-ledger"
    with stand.load() as load:
        for cut in range(1, 9):
            proxy.lose_replies = 1
            stand.engine.wait_for("a reply being lost", lambda cut=cut: proxy.lost >= cut)
    report("answers lost", proxy.lost)
    ends = stand.check(load)
    # a row whose commit took too long to be sure of may not be sent: it says so
    assert set(ends) <= {"EXECUTED", "FAILED", "EXPIRED"}, ends
    assert ends["EXECUTED"] > len(load.accepted) // 2


def test_slow_and_sliced_ledger_delays_but_keeps_the_promise(stand: StoreStand, report: Report) -> None:
    proxy = stand.postgres_proxy.faults
    try:
        with stand.load() as load:
            proxy.latency_s, proxy.jitter_s, proxy.slice_bytes = 0.15, 0.2, 7
            before = len(load.accepted)
            stand.engine.wait_for("signals being accepted", lambda: len(load.accepted) > before + 40)
            report("kill switch with a slow ledger, ms", round(block(stand) * 1e3))
            release(stand)
            proxy.latency_s = proxy.jitter_s = 0
            proxy.slice_bytes = None
    finally:
        proxy.latency_s = proxy.jitter_s = 0
        proxy.slice_bytes = None
    report("load", load)
    ends = stand.check(load)
    assert ends["EXECUTED"] > 0


def test_ledger_that_hangs_holds_orders_back_and_sends_them_when_it_answers(stand: StoreStand, report: Report) -> None:
    with stand.load() as load, stand.postgres_proxy.stalled():
        before = len(load.accepted)
        stand.engine.wait_for("signals being journalled", lambda: len(load.accepted) > before + 20)
        sent = len(stand.exchange.places())
        stand.engine.wait_for("more signals", lambda: len(load.accepted) > before + 60)
        assert len(stand.exchange.places()) == sent, "an order went without a write-ahead"
    report("load", load)
    stand.check(load)


def test_crowded_ledger_fails_closed_and_the_kill_switch_works(stand: StoreStand, report: Report) -> None:
    hogs: list[subprocess.Popen[str]] = []
    with stand.load() as load:
        before = len(load.accepted)
        try:
            stand.postgres.sql(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name LIKE 'trading-%'"
            )
            # one by one, so that those already there are ended whatever happens
            hogs.extend(stand.postgres.session("SELECT 1;") for _ in range(30))
            stand.engine.wait_for("signals being accepted", lambda: len(load.accepted) > before + 20, within_s=60)
            report("kill switch with a crowded ledger, ms", round(block(stand) * 1e3))
        finally:
            for hog in hogs:
                hog.communicate("", timeout=10)
        stand.whole()
        release(stand)
    stand.check(load)


def test_deadlock_is_tried_again_and_never_sends_twice(stand: StoreStand) -> None:
    def deadlocks() -> int:
        return int(stand.postgres.sql("SELECT deadlocks FROM pg_stat_database WHERE datname = 'engine'"))

    def waiting() -> bool:
        query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'trading-engine-ledger'"
        return stand.postgres.sql(f"{query} AND wait_event_type = 'Lock'") != "0"

    def held() -> bool:
        return stand.postgres.sql("SELECT count(*) FROM positions") != "0"

    before = deadlocks()
    with stand.load() as load:
        stand.engine.wait_for("a position", held)
        # the ledger's transaction holds the lease's row and waits for a position's; its rival the other way round
        rival = stand.postgres.session("SET deadlock_timeout = '60s'; BEGIN; SELECT FROM positions FOR UPDATE;")
        stand.engine.wait_for("the ledger waiting for a lock", waiting)
        said, _ = rival.communicate("SELECT 1 FROM engine_lease FOR UPDATE; COMMIT;", timeout=30)
        assert "ERROR" not in said, said
        stand.engine.wait_for("a deadlock", lambda: deadlocks() > before)
    ends = stand.check(load)
    assert ends == {"EXECUTED": len(load.accepted)}, stand.reasons


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[None]:
    """Mount a small disk at *folder*, or skip the test where that is not allowed."""
    folder.mkdir(parents=True)
    try:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("a full disk needs the right to mount a small one")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def fill(file: Path) -> None:
    """Write to *file* until its disk is full."""
    with file.open("ab", buffering=0) as ballast:
        for piece in (1 << 20, 4096):
            try:
                while True:
                    ballast.write(b"\0" * piece)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise


def test_full_disk_of_the_ledger_recovers_with_its_chain_whole(
    tmp_path_factory: pytest.TempPathFactory, report: Report
) -> None:
    folder = tmp_path_factory.mktemp("fd")
    disk = folder / "postgres"
    with small_disk(disk, "160m"), TrioThread() as thread, StoreStand(folder, thread).running() as stand:
        with stand.load() as load:
            ballast = disk / "ballast"
            fill(ballast)
            before = len(load.sent)
            # the server finds room in its open files for a while
            stand.postgres.grow()
            stand.engine.wait_for("signals on a full disk", lambda: len(load.sent) > before + 60)
            ballast.unlink()
            if stand.postgres.has_ended:
                report("the server", "ended by itself")
                stand.postgres.start()
            stand.whole()
        report("load", load)
        stand.check(load)
