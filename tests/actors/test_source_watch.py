"""The source watch as an actor: gaps and silences told once, nothing forgotten over a restart, no store waited for."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
import trio

from engine.actors.source_watch import SourceWatch
from engine.domain.directory import Directory, OldKeys, Source
from engine.domain.enums import SourceType
from engine.domain.source_watch import Heard
from engine.errors import MailboxFull, StoreUnavailable
from engine.secret import Secret
from tests.support.desk import TrioClock

ALWAYS = datetime.min.replace(tzinfo=UTC)


class Rig:
    """A watch with a ledger that is a list; the store may be away, the market closed, the clock suspect."""

    def __init__(self, **changes):
        self.clock = TrioClock()
        self.directory = Directory()
        self.source = Source(
            id=uuid4(), user_id=uuid4(), strategy_id=uuid4(), type=SourceType.WEBHOOK, name="desk", api_key_hash=b"k",
            secret=Secret("s"), **changes,
        )  # fmt: skip
        self.directory.put_source(self.source)
        self.alerts, self.written, self.records, self.ended = [], [], [], []
        self.opened = ALWAYS
        self.suspect = None
        self.full = False
        self.store = {}
        self.away = 0
        self.watch = SourceWatch(
            directory=self.directory,
            ledger=self,
            clock=self.clock,
            load=self.load,
            opened_at=lambda _now: self.opened,
            end_old_keys=self.end,
            alert=lambda subject, text: self.alerts.append((subject, text)),
            suspect=lambda: self.suspect,
        )

    async def load(self):
        if self.away:
            self.away -= 1
            raise StoreUnavailable("away")
        return dict(self.store)

    async def end(self, source):
        self.ended.append(source.id)
        if len(self.ended) == 1:
            raise StoreUnavailable("away")
        self.directory.put_source(self.source)

    def append(self, entry):
        if self.full:
            raise MailboxFull("full")
        self.written += entry.writes

    def record(self, draft):
        self.records.append(draft.action)

    @property
    def heard(self):
        return self.watch.heard_of(self.source.id)

    def told(self):
        return [text.partition(":")[0] for _subject, text in self.alerts]


async def started(nursery, **changes):
    rig = Rig(**changes)
    await nursery.start(rig.watch.run)
    await trio.sleep(0.1)
    return rig


async def test_gap_is_told_once_it_had_time_to_close(autojump_clock, nursery):
    rig = await started(nursery)
    rig.watch.signals_came(rig.source, [1, 2, 5], repeat=False)
    await trio.sleep(1.5)
    assert rig.alerts == []
    await trio.sleep(3)
    ((subject, text),) = rig.alerts
    assert subject == f"source:{rig.source.id}"
    assert "3 to 4" in text


async def test_signals_that_overtake_each_other_raise_no_alarm(autojump_clock, nursery):
    rig = await started(nursery)
    for number in (1, 4, 3, 2, 6, 5):
        rig.watch.signals_came(rig.source, [number], repeat=False)
    await trio.sleep(5)
    assert rig.alerts == []
    assert rig.heard.missing == ()


async def test_sender_whose_numbers_are_none_fills_no_log(autojump_clock, nursery):
    rig = await started(nursery)
    for number in range(1000, 100_000, 500):
        rig.watch.signals_came(rig.source, [number], repeat=False)
        rig.watch.signals_came(rig.source, [1], repeat=False)
        await trio.sleep(1)
    assert 3 <= rig.told().count("SIGNALS_MISSING") <= 5
    assert rig.told().count("SEQUENCE_REPEATED") <= 5
    for _ in range(100):
        rig.watch.signals_came(rig.source, [1], repeat=False)
    assert len(rig.heard.missing) <= 100


async def test_repeat_of_a_delivery_is_no_repeat_of_a_number(autojump_clock, nursery):
    rig = await started(nursery)
    rig.watch.signals_came(rig.source, [1], repeat=False)
    at = rig.heard.last_signal_at
    await trio.sleep(5)
    rig.watch.signals_came(rig.source, [1], repeat=True)
    assert rig.alerts == []
    assert rig.heard.last_signal_at == at
    rig.watch.signals_came(rig.source, [1], repeat=False)
    rig.watch.signals_came(rig.source, [1], repeat=False)
    assert rig.told() == ["SEQUENCE_REPEATED"]


async def test_silence_counts_in_the_markets_hours_only(autojump_clock, nursery):
    rig = await started(nursery, expect_every_s=60)
    rig.opened = None
    await trio.sleep(600)
    assert rig.alerts == []
    rig.opened = rig.clock.now()
    await trio.sleep(59)
    assert rig.alerts == []
    await trio.sleep(600)
    assert rig.told() == ["SOURCE_SILENT"]
    assert rig.heard.silent_since == rig.opened
    rig.watch.beat(rig.source)
    assert rig.heard.silent_since is None
    assert rig.records == ["SOURCE_HEARD_AGAIN"]
    await trio.sleep(90)
    assert rig.told() == ["SOURCE_SILENT"] * 2


async def test_clock_that_may_be_wrong_makes_nobody_silent(autojump_clock, nursery):
    rig = await started(nursery, expect_every_s=10)
    rig.suspect = "it was set"
    await trio.sleep(100)
    assert rig.alerts == []


async def test_what_came_before_the_store_was_there_is_not_lost(autojump_clock, nursery):
    rig = Rig()
    rig.away = 3
    rig.store = {rig.source.id: Heard(last_sequence=10, missing=((3, 4),))}
    await nursery.start(rig.watch.run)
    rig.watch.signals_came(rig.source, [12], repeat=False)
    rig.watch.signals_came(rig.source, [3], repeat=False)
    await trio.sleep(6)
    assert rig.heard.missing == ((4, 4), (11, 11))
    assert rig.heard.last_sequence == 12


async def test_state_is_written_within_a_tick_and_again_when_there_was_no_room(autojump_clock, nursery):
    rig = await started(nursery)
    rig.full = True
    rig.watch.signals_came(rig.source, [1], repeat=False)
    await trio.sleep(3)
    assert rig.written == []
    rig.full = False
    await trio.sleep(1.5)
    (write,) = rig.written
    assert write.args[0] == [rig.source.id]
    await trio.sleep(10)
    assert len(rig.written) == 1


async def test_wish_to_watch_that_ends_ends_the_silence(autojump_clock, nursery):
    rig = await started(nursery, expect_every_s=10)
    await trio.sleep(30)
    assert rig.heard.silent_since is not None
    rig.directory.put_source(Rig().source.__class__(**{**_fields(rig.source), "expect_every_s": None}))
    await trio.sleep(2)
    assert rig.heard.silent_since is None


def _fields(source):
    return {name: getattr(source, name) for name in source.__struct_fields__}


async def test_old_keys_are_taken_away_after_their_grace_though_the_store_was_away(autojump_clock, nursery):
    rig = await started(nursery)
    until = rig.clock.now() + timedelta(seconds=30)
    rotated = Source(**{**_fields(rig.source), "old": OldKeys(api_key_hash=b"o", secret=Secret("old"), until=until)})
    rig.directory.put_source(rotated)
    await trio.sleep(25)
    assert rig.ended == []
    await trio.sleep(10)
    assert rig.ended == [rig.source.id] * 2


@pytest.mark.parametrize("number", [5, 7])
async def test_heartbeat_that_names_a_later_number_shows_the_loss(autojump_clock, nursery, number):
    rig = await started(nursery)
    rig.watch.beat(rig.source, 4)
    rig.watch.beat(rig.source, number)
    rig.watch.beat(rig.source, 2)
    await trio.sleep(4)
    assert rig.heard.missing == ((5, number),)
    assert rig.told() == ["SIGNALS_MISSING"]


async def test_lost_rows_are_told_once(autojump_clock, nursery):
    rig = await started(nursery)
    rig.watch.rows_lost(rig.source, ["a", "b"])
    rig.watch.rows_lost(rig.source, ["b", "a"])
    rig.watch.rows_lost(rig.source, ["b", "c"])
    assert rig.told() == ["SHEET_ROWS_MISSING"] * 2
