"""Splitting an order that the broker refused for its size: the exchange's freeze quantity was not known.

A refusal is definite: nothing of the order was placed, so its slices are no second sending of it. They take its
place: before what was accepted after it, and no longer than it could wait itself.
"""

from collections.abc import Callable
from uuid import uuid5

import msgspec
import structlog

from engine.actors.executor_context import ExecutorContext
from engine.broker.base import RefusalCode, Refused
from engine.domain.instruments import MAX_SLICES, SLICED, freeze_from_refusal, slices
from engine.domain.intent import RESLICED
from engine.domain.order import Order
from engine.errors import MailboxFull

_log = structlog.get_logger(__name__)


class Slicer:
    """Makes slices of one account's refused orders; *spawn* enters a new order."""

    def __init__(self, context: ExecutorContext, *, spawn: Callable[[Order, str], Order]) -> None:
        self._context = context
        self._spawn = spawn

    def reslice(self, order: Order, refused: Refused) -> str | None:
        """Place *order*, which was refused, in slices that the refusal's text allows; return what was done of it.

        None when it was refused for something else, or cannot be split. The largest order that the exchange
        takes is remembered either way.
        """
        if refused.code is not RefusalCode.FREEZE_QUANTITY:
            return None
        freeze = freeze_from_refusal(refused.message)
        if freeze is None:
            return None
        self._context.learn_freeze(order.exchange, order.symbol, freeze)
        instrument = self._context.instrument(order.exchange, order.symbol)
        if instrument is None or order.variety not in SLICED or order.is_attached or order.quantity <= freeze:
            return None
        if order.is_square_off:
            return None  # the next one is made from what is held then, and is cut to fit
        try:
            cut = slices(order.quantity, msgspec.structs.replace(instrument, freeze_quantity=freeze))
        except ValueError as error:
            _log.warning("order.not_sliced", order=str(order.id), error=str(error))
            return None
        if len(cut) > MAX_SLICES:
            return None
        made = 0
        # each goes before those made already
        for number, quantity in reversed(list(enumerate(cut, start=1))):
            part = msgspec.structs.replace(
                order, id=uuid5(order.id, f"slice\x00{number}"), parent_id=order.id, quantity=quantity
            )
            try:
                self._spawn(part, f"slice {number} of {len(cut)} of {order.id}")
            except MailboxFull as error:
                text = f"only {made} of {order.quantity} units were placed in slices: {error}"
                self._context.alert(f"order:{order.id}", f"SLICES_MISSING: {text}")
                return None
            made += quantity
        return f"{RESLICED}: placed as {len(cut)} orders of at most {freeze}; {refused.message}"
