"""A report of a drill, as one that passed would give it."""

from datetime import UTC, datetime

from engine.domain.drill import DrillReport, DrillVerdict, FaultHit, Signals

REPORT = DrillReport(
    verdict=DrillVerdict.PASS,
    problems=(),
    started_at=datetime(2026, 11, 28, 4, 30, tzinfo=UTC),
    took_s=31.5,
    seed=1,
    orders=20,
    positions=5,
    faults=(FaultHit(rule="on=place,answer=bad_input", hits=2),),
    time_to_block_s=0.0004,
    time_to_answer_s=0.02,
    time_to_cancelled_s=3.5,
    time_to_flat_s=9.25,
    orders_sent=25,
    orders_refused=0,
    exits_sent=7,
    exits_refused=2,
    cancels_sent=20,
    orders_after_block=0,
    over_flattens=0,
    positions_left=(),
    open_orders_left=0,
    signals=Signals(sent=500, accepted=60, refused=440, after_block=440, taken_after_block=0),
    certificate_id="0190a1b2-0000-7000-8000-000000000001",
    certificate_verified=True,
)
