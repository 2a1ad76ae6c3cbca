"""The cyclic collector, kept off the path of signals: what a start has built is looked at no more, the rest less often.

A full collection of some hundred megabytes stops everything for tenths of a second. What lives long is made while the
engine starts (modules, instruments, accounts), and what a signal makes is freed by its reference counts.
"""

import gc
import time

import structlog

_log = structlog.get_logger(__name__)

# Objects made and not freed before the young ones are looked at; and how many such looks make an older generation due.
_THRESHOLDS = (25_000, 20, 50)
MANY = 20
"""So many accounts make enough for a collection to be felt in the midst of a signal."""
# With many accounts: what is worth a look of a few milliseconds, and how many such looks make an older generation due.
_TIDY_FROM = 1_000
_TIDY_BETWEEN = 1_200
# What one account's part in a signal may make before the first of it is freed again.
_OF_AN_ACCOUNT = 150
_LONG_S = 0.05

_is_settled = False
_accounts = 0


class Pauses:
    """How often the collector ran since `settle`, and the longest it stopped everything, in seconds."""

    def __init__(self) -> None:
        self.count = 0
        self.longest_s = 0.0
        self._began = 0.0

    def note(self, phase: str, info: dict[str, int]) -> None:
        """Take note of the begin and the end of a collection."""
        now = time.perf_counter()
        if phase == "start":
            self._began = now
            return
        took = now - self._began
        self.count += 1
        self.longest_s = max(self.longest_s, took)
        if took >= _LONG_S:
            _log.warning("gc.long_pause", seconds=round(took, 3), generation=info["generation"])


def begin() -> None:
    """Leave what was imported alone, and look at the rest as seldom as later on.

    A start reads all that is open into memory and lets go of little: with 20,000 open signals the collector took a
    sixth of it by looking at the same objects seven times over.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)


def settle() -> Pauses:
    """Leave what the start has built alone from now on, and watch what comes.

    What is garbage by then is kept for good, which is little: looking for it would take as long as all of what the
    start has read into memory is large, and whoever waits for the engine would wait for that.
    """
    global _is_settled
    _is_settled = True
    gc.freeze()
    make_room(_accounts)
    pauses = Pauses()
    gc.callbacks.append(pauses.note)
    return pauses


def accounts_opened() -> None:
    """Leave alone what opening accounts has built; nothing before `settle`.

    What has just become garbage is kept for good, which is little: collecting first would stop everything for as long
    as is to be saved.
    """
    if _is_settled:
        gc.freeze()


def make_room(accounts: int) -> None:
    """Look at young objects so seldom that a signal to so many *accounts* is carried out without, from `settle` on.

    What is due then is collected in quiet moments: see `tidy`.
    """
    global _accounts
    _accounts = accounts
    if _is_settled:
        young, between, old = _THRESHOLDS
        if accounts >= MANY:
            between = _TIDY_BETWEEN
        gc.set_threshold(max(young, accounts * _OF_AN_ACCOUNT), between, old)


def tidy() -> None:
    """Look at what is young while that is little: called twice a second with many accounts, in a quiet moment if any.

    What a thousand accounts make in ten seconds takes a tenth of a second to look at, in which a signal would wait.
    """
    young, between, _ = gc.get_count()
    if _is_settled and young > _TIDY_FROM:
        gc.collect(1 if between >= _TIDY_BETWEEN else 0)
