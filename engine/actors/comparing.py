"""Comparing an account with the broker on demand: one comparison for all who ask before it begins."""

import trio

from engine.actors.reconcile_report import ReconcileReport
from engine.actors.reconciler import Reconciler
from engine.errors import BrokerUnavailable, MailboxFull, UnavailableError
from engine.runtime.mailbox import Reply


class Comparisons:
    """Those who wait for a comparison by *reconciler*."""

    def __init__(self, reconciler: Reconciler) -> None:
        self._reconciler = reconciler
        self._askers: list[Reply[ReconcileReport]] = []

    def ask(self, nursery: trio.Nursery) -> Reply[ReconcileReport]:
        """Have a comparison made in *nursery*, or wait for the one that is about to begin there."""
        reply: Reply[ReconcileReport] = Reply()
        self._askers.append(reply)
        if len(self._askers) == 1:
            nursery.start_soon(self._compare)
        return reply

    async def _compare(self) -> None:
        async with self._reconciler.turn:
            askers, self._askers = self._askers, []
            try:
                report = await self._reconciler.now()
            except (BrokerUnavailable, MailboxFull) as error:
                for reply in askers:
                    reply.fail(error)
            else:
                for reply in askers:
                    reply.answer(report)

    def give_up(self) -> None:
        """The executor ends: whoever waits has to ask its next life."""
        for reply in self._askers:
            reply.fail(UnavailableError("the account's orders are being read; try again", retry_after_s=2))
        self._askers.clear()
