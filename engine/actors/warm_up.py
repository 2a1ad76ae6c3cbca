"""Opens the accounts that a signal may be for ahead of the signal, so that none waits for its books to be read.

An executor is made on demand: its first order would wait until the ledger and the broker's books have been read, and
that of a signal to a thousand accounts for a thousand of those reads. Collects garbage too, little at a time and
where a quiet moment can be had in one, where accounts are many enough for a collection to be felt in the midst of a
signal.

No mailbox. Restart: permanent.
"""

import time
from collections.abc import Callable

import trio

from engine.actors.crew import Crew
from engine.domain.directory import Directory
from engine.domain.enums import AccountStatus
from engine.runtime.beat import beat
from engine.runtime.garbage import MANY, accounts_opened, make_room, tidy

MOST = 2_000
"""The most executors there are ahead of need: each costs some memory, and a read of its books now and then."""

_LEAST_APART_S = 0.005
_MOST_APART_S = 0.25
_EVERY_S = 20
_OPENING_S = 5
# Between the beats, at which much else is done.
_TIDIES = 2
_TIDY_APART_S = 0.3
_TRIES = 20
_TRY_AGAIN_S = 0.005


class WarmUp:
    """Looks at the accounts of the strategies that are on; *cpu_s* is what the event loop's thread has used so far."""

    def __init__(self, directory: Directory, crew: Crew, *, cpu_s: Callable[[], float] = time.thread_time) -> None:
        self._directory = directory
        self._crew = crew
        self._cpu_s = cpu_s

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Open what is not open yet, one after the other, until cancelled."""
        task_status.started()
        # whoever opened them: a signal to a thousand accounts may come before this has come to them
        left_alone = 0
        while True:
            await self.look()
            for second in range(_EVERY_S):
                await beat(1.0)
                opened = len(self._crew.executors)
                if second == _OPENING_S and opened - left_alone >= MANY:
                    accounts_opened()
                    left_alone = opened
                for _ in range(_TIDIES if opened >= MANY else 0):
                    await trio.sleep(_TIDY_APART_S)
                    await self._tidy_soon()

    async def look(self) -> int:
        """Open the accounts that are logged in and traded by a strategy, so far apart that no signal notices.

        Returns how many there were.

        The loop rests as long as it worked since the last one, whoever it worked for: an engine with nothing to do
        has a thousand open within seconds, one with signals in hand gives them most of its time.
        """
        used_s, opened = self._cpu_s(), 0
        directory, executors = self._directory, self._crew.executors
        wanted = {target.account_id for s in directory.strategies.values() if s.enabled for target in s.targets}
        make_room(max(len(wanted), len(executors)))
        for account_id in wanted - executors.keys():
            account = directory.accounts.get(account_id)
            if len(executors) >= MOST:
                break
            if account_id in executors:
                continue  # a signal has opened it meanwhile
            if account is not None and account.status is AccountStatus.ACTIVE:
                self._crew.risk(account.user_id)
                self._crew.executor(account_id)
                opened += 1
                await trio.sleep(_LEAST_APART_S)
                before, used_s = used_s, self._cpu_s()
                await trio.sleep(min(used_s - before, _MOST_APART_S))
                if len(executors) >= MANY and not self._crew.in_flight:
                    tidy()
        return opened

    async def _tidy_soon(self) -> None:
        """Tidy in the next moment in which nothing is on the wire, or in the midst of it when none comes."""
        for _ in range(_TRIES):
            if not self._crew.in_flight:
                break
            await trio.sleep(_TRY_AGAIN_S)
        tidy()
