"""Changing an order that works at the broker: its quantity, prices, type or validity.

A change creates no order, so that its outcome needs no proof before the next one: what the book shows is
what counts, and the order's terms here follow it. Kite takes 25 changes of one order (kite.md 4.1); after
them, and when it says so itself, the order is cancelled and what is left of it placed anew.
"""

from collections.abc import Callable
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid5

import msgspec
import structlog
import trio

from engine.actors.account_session import AccountSession
from engine.actors.cancelling import Canceller
from engine.actors.dispatching import Dispatcher
from engine.actors.executor_context import ExecutorContext
from engine.actors.kill_gate import against_kill
from engine.actors.order_desk import OrderDesk
from engine.actors.order_watch import OrderWatch
from engine.actors.spawning import Spawner
from engine.broker.base import Accepted, BrokerAuthError, Gate, NotSent, RefusalCode, Refused, Unknown, WriteOutcome
from engine.domain.attached import MAX_MODIFICATIONS, RENEWED
from engine.domain.enums import OrderStatus, OrderType, Validity, Variety
from engine.domain.order import Order
from engine.errors import BrokerUnavailable, ConflictError, MailboxFull, OrderExecutionError, UnavailableError
from engine.runtime.mailbox import Reply

_log = structlog.get_logger(__name__)

_TIMEOUT_S = 20.0
_ANSWER_TIMEOUT_S = 60.0
_WATCH_S = 2.0
_SHOWN_S = 5.0
_CANCEL_WAIT_S = 10.0
_CHANGEABLE = (OrderStatus.OPEN, OrderStatus.PARTIALLY_FILLED, OrderStatus.TRIGGER_PENDING)
_AT_MARKET = (OrderType.MARKET, OrderType.SL_M)

ON_ITS_WAY = (OrderStatus.SUBMITTING, OrderStatus.SUBMITTED)
"""Sent, and not shown by the broker's book yet."""


class Terms(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What to change of an order, None for what stays: ``quantity`` is the new total in units, filled part
    included; prices are rupees."""

    quantity: int | None = None
    price: Decimal | None = None
    trigger_price: Decimal | None = None
    order_type: OrderType | None = None
    validity: Validity | None = None

    def given(self) -> dict[str, Any]:
        """Return the fields of an order that change, with their new values."""
        return {name: value for name in self.__struct_fields__ if (value := getattr(self, name)) is not None}

    def __str__(self) -> str:
        return ", ".join(f"{name} {value}" for name, value in self.given().items())


def with_terms(order: Order, terms: Terms) -> Order:
    """Return *order* as it would be after a change: a price that its new type does not take is dropped."""
    changes = terms.given()
    kind = changes.get("order_type", order.order_type)
    if not kind.needs_price and "price" not in changes:
        changes["price"] = None
    if not kind.needs_trigger and order.variety is not Variety.CO and "trigger_price" not in changes:
        changes["trigger_price"] = None
    return msgspec.structs.replace(order, **changes)


class Modifier:
    """Changes orders of one account; *turns* has its budget of calls."""

    def __init__(
        self,
        context: ExecutorContext,
        desk: OrderDesk,
        session: AccountSession,
        watch: OrderWatch,
        *,
        turns: Dispatcher,
        canceller: Canceller,
        spawner: Spawner,
    ) -> None:
        self._context = context
        self._desk = desk
        self._session = session
        self._watch = watch
        self._turns = turns
        self._canceller = canceller
        self._spawner = spawner
        self._replacing: set[UUID] = set()

    def is_replacing(self, order_id: UUID) -> bool:
        """Whether an order is being cancelled in order to be placed anew."""
        return order_id in self._replacing

    def give_up(self, order_id: UUID) -> None:
        """Somebody wants an order cancelled: what is left of it is not placed anew."""
        self._replacing.discard(order_id)

    async def modify(self, order: Order, terms: Terms, *, by: str, nursery: trio.Nursery) -> Order:
        """Change an order for a person, and wait up to two seconds until the book shows it.

        One that the broker has taken and its book does not show open yet has five seconds to get there first: a
        program may change what it has placed just now.
        Returns the order as it is then: the one that replaces it, where its changes are used up. The request
        is made in *nursery*, for whoever asks may go away while it is on the wire. Raises ConflictError,
        OrderExecutionError, UnavailableError.
        """
        if order.is_square_off:
            # it is of what is held and no more, and the engine makes another when it does not fill
            raise ConflictError(
                "the order closes a position for the engine; cancel it instead", code="SQUARE_OFF_ORDER"
            )
        order = await self.shown(order)
        if order.status.is_terminal:
            raise ConflictError(f"the order is {order.status} already", code="ORDER_FINISHED")
        is_after_market = order.variety is Variety.AMO and order.status is OrderStatus.SUBMITTED
        if order.broker_order_id is None or not (order.status in _CHANGEABLE or is_after_market):
            raise ConflictError(
                f"the order is {order.status}; it can be changed once the broker shows it open", code="ORDER_IN_FLIGHT"
            )
        if self._desk.is_changing(order.id):
            raise ConflictError("an earlier change of the order is under way; try again", code="ORDER_IN_FLIGHT")
        # from here on no other change of it begins, and risk counts the larger of both
        self._desk.expect(order.id, terms.given())
        self._desk.note(order, f"modify requested by {by}: {terms}")
        reply: Reply[UUID] = Reply()
        nursery.start_soon(self._answer, order, terms, by, reply)
        with trio.move_on_after(_ANSWER_TIMEOUT_S) as scope:
            changed = await reply.wait()
        if scope.cancelled_caught:
            raise UnavailableError("the broker does not answer; read the order again", retry_after_s=5)
        with trio.move_on_after(_WATCH_S):
            while self._desk.is_changing(changed):
                await self._watch.wait_looked()
        return self._desk.orders.get(changed, order)

    async def shown(self, order: Order) -> Order:
        """Return an order as it is once the broker's book shows it, or as it is after five seconds."""
        with trio.move_on_after(_SHOWN_S):
            while order.status in ON_ITS_WAY and order.variety is not Variety.AMO:
                self._watch.look_soon()
                await self._watch.wait_looked()
                order = self._desk.orders.get(order.id, order)
        return order

    async def _answer(self, order: Order, terms: Terms, by: str, reply: Reply[UUID]) -> None:
        try:
            reply.answer(await self._change(order, terms, by))
        except BrokerAuthError as error:
            reply.fail(OrderExecutionError(f"the broker wants a new login: {error}"))
        except BrokerUnavailable as error:
            reply.fail(UnavailableError(f"the broker cannot be asked now: {error}", retry_after_s=2))
        except (ConflictError, UnavailableError, OrderExecutionError) as error:
            reply.fail(error)
        except MailboxFull as error:
            reply.fail(UnavailableError(f"the ledger takes no more now: {error}", retry_after_s=5))
        finally:
            self._watch.look_soon()

    async def _change(self, order: Order, terms: Terms, by: str) -> UUID:
        """Change an order and return its id, or replace it and return the id of the new one."""
        if order.modifications >= MAX_MODIFICATIONS:
            return await self._anew(order, terms, by)
        outcome = await self.ask(order, terms, gate=lambda: self._against(order))
        if isinstance(outcome, Refused):
            if outcome.code is RefusalCode.MODIFICATION_CAP:
                return await self._anew(order, terms, by)
            raise OrderExecutionError(f"the broker refused the change: {outcome.message}")
        if isinstance(outcome, NotSent):
            raise OrderExecutionError(f"the change could not be sent: {outcome.reason}")
        return order.id

    def _against(self, order: Order) -> str | None:
        if not self._context.holds_lease():
            return "FENCED: the lease is not held"
        return against_kill(self._context, order)

    async def ask(self, order: Order, terms: Terms, *, gate: Callable[[], str | None] | None = None) -> WriteOutcome:
        """Ask the broker to change *order*; what the book shows of it later becomes its terms.

        Raises BrokerUnavailable when there is no session.
        """
        to_market = terms.order_type in _AT_MARKET
        self._desk.expect(order.id, terms.given())

        async def request(turn: Gate) -> WriteOutcome:
            # it may have waited for its call of the budget
            self._desk.expect(order.id, terms.given())
            with trio.move_on_after(_TIMEOUT_S):
                return await broker.replace(
                    self._desk.index.wire_id(order) or "",
                    order.variety,
                    quantity=terms.quantity,
                    price=terms.price,
                    trigger_price=terms.trigger_price,
                    order_type=terms.order_type,
                    validity=terms.validity,
                    market_protection=self._context.protection(order.account_id) if to_market else None,
                    gate=lambda: (None if gate is None else gate()) or turn(),
                )
            return Unknown(reason=f"no answer within {_TIMEOUT_S:g} s")

        outcome: WriteOutcome = NotSent(reason="the request was not made")
        try:
            broker = await self._session.broker()
            if await self._context.still_leads():
                outcome = await self._turns.call(request)
            else:
                outcome = NotSent(reason="FENCED: another engine leads; ask it", gated=True)
        finally:
            if isinstance(outcome, Refused | NotSent):
                self._desk.expect_no_more(order.id)
                self._desk.tell_again(order.id)
            self._watch.look_soon()
        if isinstance(outcome, Refused):
            self._session.refused(broker, outcome)
        latest = self._desk.orders.get(order.id)
        is_used_up = isinstance(outcome, Refused) and outcome.code is RefusalCode.MODIFICATION_CAP
        if is_used_up and latest is not None and latest.modifications < MAX_MODIFICATIONS:
            # somebody has changed it elsewhere too: the broker's count is the one that holds
            self._desk.change(latest, f"{outcome}", modifications=MAX_MODIFICATIONS)
        if latest is not None and isinstance(outcome, Accepted | Unknown):
            # one that nobody knows of counts: the cap must not be met unawares
            count = latest.modifications + 1
            said = "the broker took the change" if isinstance(outcome, Accepted) else outcome.reason
            self._desk.change(latest, f"{said}: {terms}", modifications=count)
        elif latest is not None and isinstance(outcome, Refused) and outcome.code is RefusalCode.MODIFICATION_CAP:
            # changes by hand count too
            self._desk.change(latest, outcome.message, modifications=MAX_MODIFICATIONS)
        return outcome

    async def _anew(self, order: Order, terms: Terms, by: str) -> UUID:
        """Cancel an order whose changes are used up, and place what is left of it with the new terms."""
        why = f"its {MAX_MODIFICATIONS} changes are used up"
        self._desk.expect_no_more(order.id)
        if (stop := self._against(order)) is not None:
            raise OrderExecutionError(f"{why}, and it cannot be placed anew: {stop}")
        self._replacing.add(order.id)
        try:
            return await self._replace(order, terms, by, why)
        finally:
            self._replacing.discard(order.id)

    async def _replace(self, order: Order, terms: Terms, by: str, why: str) -> UUID:
        held = self._desk.orders.get(order.id)
        if held is None or held.status.is_terminal:
            raise ConflictError("the order has ended meanwhile", code="ORDER_FINISHED")
        self._desk.note(held, f"{why}: it is cancelled and placed anew")
        if held.is_attached:
            # should this be cut short, its entry's exits are seen to all the same
            self._desk.change(held, why, modifications=RENEWED)
        outcome = await self._canceller.ask(self._desk.index.wire_id(order) or "", order.variety)
        if isinstance(outcome, Refused | NotSent):
            said = outcome.message if isinstance(outcome, Refused) else outcome.reason
            raise OrderExecutionError(f"{why}, and it could not be cancelled: {said}")
        with trio.move_on_after(_CANCEL_WAIT_S):
            while (latest := self._desk.orders.get(order.id)) is not None and not latest.status.is_terminal:
                self._watch.look_soon()
                await self._watch.wait_looked()
        latest = self._desk.orders.get(order.id)
        if latest is None or latest.status is OrderStatus.COMPLETE:
            raise ConflictError("the order has filled meanwhile", code="ORDER_FINISHED")
        if not latest.status.is_terminal:
            raise UnavailableError(
                f"{why}; the broker has not confirmed its cancellation: read it again, and send the rest anew",
                retry_after_s=5,
            )
        if order.id not in self._replacing:
            raise ConflictError("somebody has cancelled the order meanwhile", code="ORDER_FINISHED")
        if self._has_successor(latest):
            raise ConflictError("the engine has placed it anew meanwhile: change that one", code="ORDER_FINISHED")
        wanted = with_terms(latest, terms)
        quantity = wanted.quantity - latest.filled_quantity
        if quantity <= 0:
            raise ConflictError("the order has filled that much already", code="ORDER_FINISHED")
        protection = latest.market_protection or self._context.protection(order.account_id)
        wanted = msgspec.structs.replace(
            wanted,
            id=uuid5(latest.id, "replacement"),
            # the intent has ended with the order that it made; this one is a person's
            intent_id=latest.intent_id if latest.is_attached else None,
            # an exit stays that of its entry, or nobody would take it off the market
            parent_id=latest.parent_id if latest.is_attached else latest.id,
            quantity=quantity,
            filled_quantity=0,
            average_price=Decimal(0),
            market_protection=protection if wanted.order_type in _AT_MARKET else None,
        )
        return self._spawner.spawn(wanted, action="ORDER_REPLACED", detail=f"replaces {latest.id}, by {by}").id

    def _has_successor(self, exit_: Order) -> bool:
        """Whether an attached exit that has ended has another in its place."""
        return exit_.is_attached and any(
            (o.parent_id, o.role, o.options.unit) == (exit_.parent_id, exit_.role, exit_.options.unit)
            for o in self._desk.orders.values()
            if not o.status.is_terminal
        )
