from uuid import uuid4

from engine.domain.stage_times import STAGES, read, written
from engine.observability.stages import NO_STAGES, StageClock


class Ticking:
    """A clock of which each look is a microsecond after the last."""

    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        self.now += 1000
        return self.now


def test_offsets_are_read_as_they_were_written() -> None:
    offsets = {name: 1000 * n + 7 for n, name in enumerate(STAGES)}
    assert read(f"some words. {written(offsets)}") == offsets
    assert read(written({"sent": 5})) == {"sent": 5}
    assert written({}) == ""
    assert read("attempt 1, tag T1") == {}


def test_each_stage_is_measured_from_the_one_before_it() -> None:
    stages = StageClock(Ticking())
    source, intents, orders = uuid4(), [uuid4(), uuid4()], [uuid4(), uuid4()]
    stages.came(source, "k", 500)
    stages.taken(source, "k", intents)
    stages.decided(intents)
    stages.accepted(intents)
    stages.committed(intents)
    details = []
    for order, intent in zip(orders, intents, strict=True):
        stages.sent(order)
        details.append(stages.answered(order, intent))
        stages.filled(order)
        stages.filled(order)
    assert list(read(details[0])) == ["parsed", "decided", "accepted", "committed", "sent", "answered"]
    assert read(details[1])["sent"] > read(details[0])["sent"]
    counts = {name: histogram.count for name, histogram in stages.histograms().items()}
    assert counts == {
        **dict.fromkeys(("parsed", "decided", "accepted", "committed"), 1),
        **dict.fromkeys(("sent", "answered", "filled", "wire"), 2),
    }
    assert stages.histograms()["committed"].sum_ns == 2000


def test_what_did_not_come_by_the_doors_has_no_stages() -> None:
    stages = StageClock(Ticking())
    order, intent = uuid4(), uuid4()
    stages.taken(uuid4(), "k", [intent])
    stages.decided([intent])
    stages.committed([intent])
    stages.sent(order)
    assert stages.answered(order, intent) == ""
    assert stages.answered(uuid4(), None) == ""
    NO_STAGES.sent(order)
    assert NO_STAGES.answered(order, intent) == ""


def test_memory_of_the_clock_is_bounded() -> None:
    stages = StageClock(Ticking())
    for number in range(10_000):
        source, intent = uuid4(), uuid4()
        stages.came(source, str(number), 1)
        stages.taken(source, str(number), [intent])
        stages.came(source, "never taken", 1)
        stages.sent(uuid4())
    assert max(len(stages._coming), len(stages._intents), len(stages._orders)) <= 4096
