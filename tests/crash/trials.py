"""Which deaths there are to be died, and in which order."""

import random
from dataclasses import dataclass

from tests.support.crashing_engine import MADE

FLATTENING = frozenset(
    {
        *("K2.begun", "K3.before_cancel", "K3.cancelled", "K4.positions_read", "K4.written_ahead", "K4.placed"),
        *("K5.looked", "K6.flat", "K6.certified"),
    }
)
"""What follows a block is tried where the truth is what is held: tests/integration/test_flatten_paper.py."""


@dataclass(frozen=True)
class Trial:
    """End the engine at the *hit*-th passing of *point*; *by* is what makes it come by.

    signals: the deliveries of the trial; quiet: deliveries that are refused by risk, with a journal that answers
    after the ledger; kill, release, cancel: such a call among them; stop: SIGTERM among them;
    start: the start itself, recovering from the trial before; maybe: a start that may not come by; backlog: a start
    that finds the deliveries in the journal alone; zombie: a start while the dead engine's last transaction has
    not ended yet; fresh: a first start.
    """

    point: str
    hit: int = 1
    by: str = "signals"
    blocked_after: bool | None = None


SIGNALS = (
    Trial("S1.authenticated", 3),
    Trial("S1.parsed", 5),
    Trial("S1.taken", 4),
    Trial("S2.before_append", 2),
    Trial("S2.append_written", 2),
    Trial("S2.after_append", 2),
    Trial("S3.before_answer", 3),
    Trial("S3.after_answer", 4),
    Trial("S4.decided", 4),
    Trial("S5.before_commit", 1),
    Trial("S5.before_commit", 2),
    Trial("S5.after_commit", 1),
    Trial("S5.after_commit", 2),
    Trial("S5.told", 5),
    Trial("S6.before_gate", 4),
    Trial("S6.gate_passed", 5),
    Trial("S6.mid_head", 3),
    Trial("S6.mid_body", 4),
    Trial("S6.last_byte", 2),
    Trial("S6.sent", 5),
    Trial("S7.answer_arrived", 4),
    Trial("S8.answer_parsed", 5),
    Trial("S9.before_commit", 1),
    Trial("S9.before_commit", 2),
    Trial("S9.after_commit", 1),
    Trial("S9.after_commit", 2),
    Trial("S10.before_look", 1),
    Trial("S10.book_read", 1),
    Trial("S10.book_taken", 1),
    Trial("S10.before_commit", 1),
    Trial("S10.after_commit", 1),
    Trial("S11.cursor_noted", by="quiet"),
    Trial("S11.before_trim", 1),
    Trial("S11.after_trim", 1),
    Trial("C.before_request", by="cancel"),
    Trial("C.after_answer", by="cancel"),
    Trial("K0.blocked", by="kill"),
    Trial("K1.before_file", by="kill"),
    Trial("K1.after_file", by="kill", blocked_after=True),
    Trial("K1.recorded", by="kill", blocked_after=True),
    Trial("W.before_commit", by="kill"),
    Trial("W.mid_commit", by="kill"),
    Trial("W.after_commit", by="kill"),
    Trial("K2.release_asked", by="release", blocked_after=True),
    Trial("K2.released", by="release", blocked_after=False),
    Trial("T.begin", by="stop"),
    *(Trial("T.before_step", number, "stop") for number in (1, 2, 3, 5, 8)),
    *(Trial("T.after_step", number, "stop") for number in (2, 4, 6, 10)),
    Trial("T.lease_released", by="stop"),
    Trial("T.end", by="stop"),
)
STARTS = (
    Trial("R1.servers_up", by="start"),
    Trial("R1.after_migration", by="start"),
    Trial("R1.database_open", by="start"),
    Trial("R2.lease_taken", by="start"),
    Trial("R3.ledger_loaded", by="start"),
    Trial("R3.journal_placed", by="start"),
    Trial("R4.history_read", by="start"),
    Trial("R4.executor_restored", by="start"),
    Trial("R5.before_page", by="start"),
    Trial("R5.page_read", by="backlog"),
    Trial("R5.after_page", by="backlog"),
    Trial("S4.decided", 3, "backlog"),
    Trial("S5.before_commit", 1, "backlog"),
    Trial("S5.after_commit", 1, "backlog"),
    Trial("R2.lease_taken", by="zombie"),
    Trial("R6.recovered", by="zombie"),
    Trial("R6.recovered", by="start"),
    Trial("R6.edge_open", by="start"),
    Trial("R6.intake_open", by="start"),
)
FRESH = (
    Trial("R1.before_migration", by="fresh"),
    Trial("R1.mid_migration", 1, "fresh"),
    Trial("R1.mid_migration", 2, "fresh"),
    Trial("R3.first_run_planned", by="fresh"),
    Trial("W.mid_commit", by="fresh"),
    Trial("R3.first_run_done", by="fresh"),
)


def interleave(trials: list[Trial], starts: list[Trial]) -> list[Trial]:
    """Put *starts* between *trials*, so that each start recovers from a death."""
    mixed: list[Trial] = []
    waiting = list(starts)
    every = max(1, len(trials) // max(1, len(waiting)))
    for number, trial in enumerate(trials, 1):
        mixed.append(trial)
        if waiting and number % every == 0:
            mixed.append(waiting.pop(0))
    return mixed + waiting


def two_chains(seed: int, *, term: bool = False) -> tuple[list[Trial], list[Trial]]:
    """Split the whole matrix in two, in an order that *seed* picks; seed 0 is the order of the tables.

    With *term* without what SIGTERM cannot be tried at: the stop itself, half a request, and a second first start.
    """
    trials, starts, fresh = list(SIGNALS), list(STARTS), [FRESH[0::2], FRESH[1::2]]
    if term:
        trials = [trial for trial in trials if not trial.point.startswith("T.") and trial.point not in MADE]
        fresh = [FRESH[1:2], FRESH[3:4]]
    if seed:
        rng = random.Random(seed)
        trials = [
            Trial(t.point, rng.randint(1, max(1, t.hit)), t.by, t.blocked_after)
            for t in rng.sample(trials, len(trials))
        ]
        starts = rng.sample(starts, len(starts))
    return (
        [*fresh[0], *interleave(trials[0::2], starts[0::2])],
        [*fresh[1], *interleave(trials[1::2], starts[1::2])],
    )
