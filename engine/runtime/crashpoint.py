"""Named places at which a test may end the process: before and after every step of an order's way.

`crashpoint` does nothing unless a hook was installed, and nothing in the engine installs one: no
environment variable, setting or option leads there. The tests' own launcher does (it is no part of the
product), runs the real program and kills it at the n-th passing of a point. The names follow the steps of
the order protocol: S a signal's way to its fill, C cancel, K kill switch, R start, T stop.
"""

from collections.abc import Callable

POINTS = frozenset(
    {
        # the signal is there: authenticated, read, handed to both durable writes
        "S1.authenticated",
        "S1.parsed",
        "S1.taken",
        # the journal: a batch is made up, on its way, answered
        "S2.before_append",
        "S2.append_written",
        "S2.after_append",
        # the answer to the sender: known, on its way
        "S3.before_answer",
        "S3.after_answer",
        # the ledger's commit that holds intent, verdict and the order's write-ahead
        "S4.decided",
        "S5.before_commit",
        "S5.after_commit",
        "S5.told",
        # the wire: before the gate, the gate has let it pass, the last byte is gone
        "S6.before_gate",
        "S6.gate_passed",
        "S6.sent",
        # the broker has answered and nobody has read it; read; its meaning on disk
        "S7.answer_arrived",
        "S8.answer_parsed",
        "S9.before_commit",
        "S9.after_commit",
        # the order book, and the fills and positions that follow from it
        "S10.before_look",
        "S10.book_read",
        "S10.book_taken",
        "S10.before_commit",
        "S10.after_commit",
        # the journal's cursor, and what lies before it
        "S11.cursor_noted",
        "S11.before_trim",
        "S11.after_trim",
        # commits that hold other writes: kill records, people, accounts
        "W.before_commit",
        "W.mid_commit",
        "W.after_commit",
        "C.before_request",
        "C.after_answer",
        # the kill switch: in memory, in its file, handed to the ledger; and its release
        "K0.blocked",
        "K1.before_file",
        "K1.after_file",
        "K1.recorded",
        "K2.release_asked",
        "K2.released",
        # what follows a block: requests on the wire drained, cancels, exits written ahead and sent, proof
        "K2.begun",
        "K3.before_cancel",
        "K3.cancelled",
        "K4.positions_read",
        "K4.written_ahead",
        "K4.placed",
        "K5.looked",
        "K6.flat",
        "K6.certified",
        # start, which is recovery
        "R1.servers_up",
        "R1.before_migration",
        "R1.mid_migration",
        "R1.after_migration",
        "R1.database_open",
        "R2.lease_taken",
        "R3.ledger_loaded",
        "R3.journal_placed",
        "R3.first_run_planned",
        "R3.first_run_done",
        "R4.history_read",
        "R4.executor_restored",
        "R5.before_page",
        "R5.page_read",
        "R5.after_page",
        "R6.recovered",
        "R6.edge_open",
        "R6.intake_open",
        # the clean stop
        "T.begin",
        "T.before_step",
        "T.after_step",
        "T.lease_released",
        "T.end",
    }
)
"""Every point there is."""

Hook = Callable[[str], None]

_hook: Hook | None = None


def crashpoint(name: str) -> None:
    """Pass the point *name*, one of `POINTS`; calls the hook, if there is one, and returns when it does."""
    if _hook is not None:
        _hook(name)


def install(hook: Hook | None) -> None:
    """Have *hook* called with the name of every point that is passed; for test launchers only."""
    global _hook
    _hook = hook
