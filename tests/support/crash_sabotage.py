"""Known bugs, planted in a running engine, so that the crash tests can show that they would find them."""

from typing import Any

import msgspec

from engine.domain.enums import OrderStatus


def forget_write_ahead() -> None:
    """Take an order that may have been sent for one that still waits for its turn."""
    from engine.actors.ledger_reader import LedgerReader

    read = LedgerReader.account

    async def account(self: LedgerReader, *arguments: Any) -> Any:
        history = await read(self, *arguments)
        orders = [
            msgspec.structs.replace(order, status=OrderStatus.PENDING)
            if order.status is OrderStatus.SUBMITTING
            else order
            for order in history.live_orders
        ]
        return msgspec.structs.replace(history, live_orders=orders)

    LedgerReader.account = account  # type: ignore[method-assign]


def skip_replay() -> None:
    """Start without reading what the journal holds and the ledger does not."""
    from engine.journal.store import JournalStore

    async def nothing(*_: Any, **__: Any) -> list[Any]:
        return []

    JournalStore.read_after = nothing  # type: ignore[method-assign]


def send_early() -> None:
    """Send an order while its write-ahead is still on its way to the ledger."""
    from engine.actors.executor import Executor

    admit = Executor.admit

    def admit_and_send(self: Executor, order: Any) -> Any:
        admitted = admit(self, order)
        if admitted.status is OrderStatus.SUBMITTING and order.id in self._unrecorded:
            self._send_soon(admitted, self._incarnation, self._clock.boottime_ns())
        return admitted

    Executor.admit = admit_and_send  # type: ignore[method-assign]


BUGS = {bug.__name__: bug for bug in (forget_write_ahead, skip_replay, send_early)}
