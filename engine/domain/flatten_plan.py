"""Flattening one account, step by step: what the broker shows goes in, what is to be cancelled and sent comes out.

Pure: reads are handed in with when they began (monotonic seconds), nothing waits here. What it never does: send
to a place where an order of the account may still fill, or where an earlier ticket is in doubt; send more than is
held; call anything flat that two whole reads do not show. Source: reliability.md 5.4.
"""

from collections.abc import Iterable, Mapping, Sequence
from uuid import UUID

from engine.domain.enums import TransactionType
from engine.domain.flatten import (
    BookRow,
    Demand,
    Held,
    NotFlat,
    Place,
    Proof,
    Stage,
    Standing,
    Step,
    Ticket,
    TicketState,
    closable,
    closing_side,
    cut,
    moved,
    protection_of,
    ticket_id,
    why_not_orderable,
)
from engine.domain.flatten_reads import Reads
from engine.domain.flatten_world import Sent, Surroundings, nets_of, proof_of

H_KILL_S = 20.0
"""A ticket of unknown outcome that clean books lack for so long holds its place no more (reliability.md 5.4)."""
H_S = 180.0
"""One that they lack for so long was never placed (reliability.md 2.4)."""
APART_S = 2.0
"""How far two reads must lie apart to count as two."""
OVERDUE_S = 120.0
CHASE_S = 3.0
AGAIN_S = 30.0
ASK_AGAIN_S = 3.0
_ABSENT_READS = 3
_REFUSED_REST_S = (1.0, 2.0, 5.0, 10.0, AGAIN_S)
_REFUSED_OFTEN = 5
_BEHIND = "something has filled there that the trade book does not show yet"
# What no further try mends: a person has to see to it.
_FOR_A_PERSON = ("OVER_FLATTEN", "MARKET_CLOSED", "MARKET_WAS_CLOSED", "NOT_ORDERABLE", "NETTED", "REFUSED_OFTEN")


class Planner:
    """Plans for one account; *used* are ids of tickets of earlier lives: what they began is not begun again."""

    def __init__(self, world: Surroundings, reads: Reads, used: Iterable[UUID] = ()) -> None:
        self._world = world
        self.reads = reads
        self._used = set(used)
        self._used_before = frozenset(self._used)
        self._begun: dict[tuple[str, int], float] = {}
        self._flat: dict[tuple[str, int], tuple[float, Proof]] = {}
        self._done: dict[tuple[str, int], Standing] = {}
        self._asked: dict[str, float] = {}
        self._own_ids: set[str] = set()
        # what orders of others have moved at each place, as the last book shows it
        self._others: dict[Place, int] = {}
        self.sent: dict[UUID, Sent] = {}
        # rounds of which something went to the broker: only those make the next one wider
        self._tried: dict[tuple[str, int, Place], set[int]] = {}
        self._refused: dict[Place, tuple[int, float, str]] = {}
        # the side that was closed last at a place: a net on the other side after that is one of ours too many
        self._closed: dict[Place, TransactionType] = {}
        self.stopped: dict[Place, str] = {}

    # what was seen

    def book_taken(self) -> None:
        """A whole order book has come: follow the tickets in it."""
        book = self.reads.book
        if book is None:
            return
        by_tag = {tag: row for row in book.rows.values() for tag in row.tags}
        for sent in self.sent.values():
            if sent.state is TicketState.ENDED or book.began_s < sent.at_s:
                continue
            row = by_tag.get(sent.ticket.tag.upper()) or book.rows.get(sent.broker_id or "")
            if row is not None:
                self._found(sent, row, book.began_s)
            elif sent.state in (TicketState.UNKNOWN, TicketState.LOST):
                self._missed(sent, book.began_s)
        self._own_ids |= {sent.broker_id for sent in self.sent.values() if sent.broker_id is not None}
        self._others = moved(row for row in book.rows.values() if row.order_id not in self._own_ids)

    def crossed(self, ticket: Ticket) -> str | None:
        """Return why *ticket*, that has not left yet, must not: somebody else has traded where it closes."""
        sent = self.sent.get(ticket.id)
        if sent is not None and self._others.get(ticket.place, 0) == sent.others:
            return None
        return "CROSSED: somebody else has traded there since it was made"

    def _found(self, sent: Sent, row: BookRow, now_s: float) -> None:
        sent.broker_id = row.order_id
        if row.is_open:
            sent.state = TicketState.ACCEPTED
            return
        sent.state = TicketState.ENDED
        if not row.filled and row.is_refused:
            self._note_refusal(sent.ticket.place, now_s, row.said or "the broker rejected it")
        elif row.filled:
            self._refused.pop(sent.ticket.place, None)

    def _missed(self, sent: Sent, began_s: float) -> None:
        sent.clean_reads += 1
        waited = began_s - sent.at_s
        if sent.clean_reads < _ABSENT_READS or waited < H_KILL_S:
            return
        sent.was_lost = True
        sent.state = TicketState.ENDED if waited >= H_S else TicketState.LOST

    # what was sent

    def begin_ticket(self, ticket: Ticket, now_s: float) -> None:
        """*ticket* is about to be written ahead and sent."""
        self._used.add(ticket.id)
        others = self._others.get(ticket.place, 0)
        self.sent[ticket.id] = Sent(ticket=ticket, state=TicketState.SENDING, at_s=now_s, others=others)
        self._closed[ticket.place] = ticket.side

    def restore(self, ticket: Ticket, *, at_s: float) -> None:
        """A ticket of an earlier life may be at the broker; it was sent at *at_s* (monotonic) at the latest."""
        self.begin_ticket(ticket, at_s)
        self.sent[ticket.id].state = TicketState.UNKNOWN

    def ticket_accepted(self, ticket: Ticket, broker_id: str, now_s: float) -> None:
        """The broker took it."""
        self.reads.must_show(broker_id, now_s)
        self._note_try(ticket)
        if (sent := self._on_its_way(ticket)) is not None:
            sent.state, sent.broker_id, sent.at_s = TicketState.ACCEPTED, broker_id, now_s

    def ticket_refused(self, ticket: Ticket, why: str, now_s: float) -> None:
        """The broker refused it; its place waits a while before the next."""
        self._note_try(ticket)
        self.ticket_unsent(ticket, why, now_s, rest=True)

    def ticket_unsent(self, ticket: Ticket, why: str, now_s: float, *, rest: bool) -> None:
        """Nothing of it is at the broker; with *rest* its place waits a while before the next."""
        if (sent := self._on_its_way(ticket)) is not None:
            sent.state = TicketState.ENDED
        if rest:
            self._note_refusal(ticket.place, now_s, why)

    def ticket_unknown(self, ticket: Ticket, now_s: float) -> None:
        """Bytes may have left, until *now_s*."""
        self._note_try(ticket)
        if (sent := self._on_its_way(ticket)) is not None:
            sent.state, sent.at_s = TicketState.UNKNOWN, now_s

    def _note_try(self, ticket: Ticket) -> None:
        self._tried.setdefault((ticket.demand, ticket.version, ticket.place), set()).add(ticket.round)

    def _on_its_way(self, ticket: Ticket) -> Sent | None:
        """Return what is known of a ticket, unless the order book has overtaken the answer."""
        sent = self.sent.get(ticket.id)
        return sent if sent is not None and sent.state is TicketState.SENDING else None

    def cancel_asked(self, row: BookRow, now_s: float) -> None:
        """The broker is asked to cancel *row*."""
        self._asked[row.order_id] = now_s

    def _note_refusal(self, place: Place, now_s: float, why: str) -> None:
        count = self._refused.get(place, (0, 0.0, ""))[0]
        rest = _REFUSED_REST_S[min(count, len(_REFUSED_REST_S) - 1)]
        self._refused[place] = (count + 1, now_s + rest, why)

    # what follows

    def step(self, demands: Sequence[Demand], now_s: float) -> Step:
        """Return what is to be done for *demands*, and how each of them stands."""
        for demand in demands:
            self._begun.setdefault((demand.name, demand.version), now_s)
        if self.reads.book is None:
            return Step(standings=tuple(self._blind(demand, now_s) for demand in demands))
        believed = self.reads.believe(now_s)
        alarms = self._check_flips(believed or {})
        tickets = self._tickets(demands, believed or {}, now_s)
        busy = {ticket.place for ticket in tickets}
        standings = tuple(self._standing(demand, believed, busy, now_s) for demand in demands)
        return Step(cancels=self.cancels(demands, now_s), tickets=tickets, standings=standings, alarms=alarms)

    def _blind(self, demand: Demand, now_s: float) -> Standing:
        why = NotFlat(place=("", "", ""), quantity=None, open_orders=0, why="the order book cannot be read")
        return Standing(
            name=demand.name,
            version=demand.version,
            stage=Stage.CANCELLING,
            failed=self._is_overdue(demand, now_s),
            not_flat=(why,),
        )

    def _is_overdue(self, demand: Demand, now_s: float) -> bool:
        return now_s - self._begun[demand.name, demand.version] >= OVERDUE_S

    def cancels(self, demands: Sequence[Demand], now_s: float) -> tuple[BookRow, ...]:
        """Return the orders that are to be cancelled now."""
        own = {sent.broker_id: sent for sent in self.sent.values() if sent.broker_id is not None}
        wanted = []
        for row in () if self.reads.book is None else self.reads.book.open_rows:
            if now_s - self._asked.get(row.order_id, -ASK_AGAIN_S) < ASK_AGAIN_S:
                continue
            sent = own.get(row.order_id)
            if sent is not None and not self._is_to_chase(sent, now_s):
                continue
            if sent is not None or any(demand.covers_order(row.place, row.strategy_id) for demand in demands):
                wanted.append(row)
        return tuple(wanted)

    def _is_to_chase(self, sent: Sent, now_s: float) -> bool:
        """Whether a ticket that works has to go: it has had its time, or another has gone after it."""
        place = sent.ticket.place
        later = any(
            other.ticket.place == place and other.ticket.round > sent.ticket.round for other in self.sent.values()
        )
        return later or place in self.stopped or now_s - sent.at_s >= CHASE_S

    def _check_flips(self, believed: Mapping[Place, Held]) -> tuple[str, ...]:
        """Stop where the net is on the other side of what was closed: a person has to look."""
        alarms = []
        for place, row in believed.items():
            here = [sent for sent in self.sent.values() if sent.ticket.place == place]
            if not here or place in self.stopped:
                continue
            side = self._closed[place]
            if row.quantity and closing_side(row.quantity) is not side:
                exchange, symbol, product = place
                filled = sum(self._filled(sent) for sent in here)
                if filled:
                    self.stopped[place] = (
                        f"OVER_FLATTEN: {exchange}:{symbol} {product} went to {row.quantity} after {filled} units "
                        "were closed; nothing more is sent there until a person has looked"
                    )
                    alarms.append(self.stopped[place])
            elif not row.quantity and all(s.state is TicketState.ENDED and not s.was_lost for s in here):
                # all of it is closed and nothing of ours can come any more: what comes now is somebody else's
                for sent in here:
                    del self.sent[sent.ticket.id]
        return tuple(alarms)

    def _filled(self, sent: Sent) -> int:
        book = self.reads.book
        row = None if book is None or sent.broker_id is None else book.rows.get(sent.broker_id)
        return 0 if row is None else row.filled

    def _tickets(self, demands: Sequence[Demand], believed: Mapping[Place, Held], now_s: float) -> tuple[Ticket, ...]:
        tickets: list[Ticket] = []
        for place, row in sorted(believed.items()):
            wanted = [d for d in demands if d.covers_position(place) and self._units(d, place, row.quantity)]
            # one for the whole comes first
            demand = min(wanted, key=lambda each: not each.is_whole, default=None)
            if demand is not None and self._waits(demand, place, row.quantity, now_s) is None:
                tickets += self._make(demand, place, row.quantity)
        return tuple(tickets)

    def _units(self, demand: Demand, place: Place, net: int) -> int:
        if not net:
            return 0
        side = closing_side(net)
        pending = sum(
            row.pending
            for row in self.reads.works()
            if row.place == place and row.side is side and not demand.covers_order(place, row.strategy_id)
        )
        own = None if demand.strategy_id is None else self._world.share(demand.strategy_id, place)
        return closable(net, own, pending)

    def _waits(self, demand: Demand, place: Place, net: int | None, now_s: float) -> str | None:
        """Return why nothing may go now at *place*, where *net* units are held, or None."""
        if place in self.stopped:
            return self.stopped[place]
        cannot = why_not_orderable(place)
        if cannot is not None:
            return f"NOT_ORDERABLE: {cannot}"
        here = [sent for sent in self.sent.values() if sent.ticket.place == place]
        for sent in here:
            if sent.state.blocks:
                return f"an order that closes it is {sent.state}"
        if any(row.place == place and demand.covers_order(place, row.strategy_id) for row in self.reads.works()):
            return "an order still works there, or did a moment ago"
        for at, owner, side in self._world.awaited():
            # should it have reached the broker, it closes what a ticket would close once more
            if at == place and net and side is closing_side(net) and demand.covers_order(place, owner):
                return "an order that closes it has an unknown outcome"
        if self._is_behind(demand, place):
            return _BEHIND
        shut = self._world.shut(demand, place[0])
        if shut is not None:
            return shut
        count, not_before, why = self._refused.get(place, (0, 0.0, ""))
        if now_s < not_before:
            return f"{'REFUSED_OFTEN: ' if count >= _REFUSED_OFTEN else ''}refused {count} times: {why}"
        if self._is_overdue(demand, now_s) and any(now_s - sent.at_s < AGAIN_S for sent in here):
            return "tried a moment ago; it is tried again every 30 s"
        return None

    def _is_behind(self, demand: Demand, place: Place) -> bool:
        """Whether the strategy's share at *place* cannot be told yet: something has filled that no book has."""
        return demand.strategy_id is not None and self._world.behind(place)

    def _make(self, demand: Demand, place: Place, net: int) -> list[Ticket]:
        world, key = self._world, (demand.name, demand.version, place)

        def id_of(round_: int, slice_: int) -> UUID:
            return ticket_id(demand.name, demand.version, world.account_id, place, round_, slice_)

        round_, tries = 1, len(self._tried.get(key, ()))
        while id_of(round_, 1) in self._used:
            # what earlier lives wrote ahead may have been tried
            tries += id_of(round_, 1) in self._used_before
            round_ += 1
        sizes = cut(self._units(demand, place, net), world.freeze(place), world.lot(place))
        return [
            Ticket(
                id=id_of(round_, number),
                tag=world.tag(id_of(round_, number)),
                place=place,
                side=closing_side(net),
                quantity=quantity,
                protection=protection_of(tries + 1, world.protection()),
                round=round_,
                slice=number,
                demand=demand.name,
                version=demand.version,
                strategy_id=demand.strategy_id,
            )
            for number, quantity in enumerate(sizes, start=1)
        ]

    # how it stands

    def _standing(
        self, demand: Demand, believed: Mapping[Place, Held] | None, busy: set[Place], now_s: float
    ) -> Standing:
        key = (demand.name, demand.version)
        left, is_cancelling = self._left(demand, believed, now_s)
        proof = proof_of(self.reads, demand, believed)
        done = self._done.get(key)
        if left or busy:
            if self._done.pop(key, None) is not None:
                self._begun[key] = now_s
            self._flat.pop(key, None)
            needs_person = any(found.why.startswith(_FOR_A_PERSON) for found in left)
            return Standing(
                name=demand.name,
                version=demand.version,
                stage=Stage.CANCELLING if is_cancelling or not demand.flatten else Stage.FLATTENING,
                failed=bool(left) and (self._is_overdue(demand, now_s) or needs_person),
                not_flat=left,
                proofs=() if proof is None else (proof,),
            )
        if done is not None or proof is None:
            # a read that failed proves nothing, neither way
            return done or Standing(
                name=demand.name,
                version=demand.version,
                stage=Stage.FLATTENING if demand.flatten else Stage.CANCELLING,
                failed=self._is_overdue(demand, now_s),
            )
        read = self.reads.positions if demand.flatten else self.reads.book
        read_s = 0.0 if read is None else read.began_s
        first_s, first = self._flat.setdefault(key, (read_s, proof))
        if read_s - first_s < APART_S:
            stage = Stage.FLATTENING if demand.flatten else Stage.CANCELLING
            return Standing(name=demand.name, version=demand.version, stage=stage, proofs=(proof,))
        self._done[key] = Standing(
            name=demand.name,
            version=demand.version,
            stage=Stage.DONE,
            proofs=(first, proof),
            took_s=now_s - self._begun[key],
        )
        return self._done[key]

    def _left(
        self, demand: Demand, believed: Mapping[Place, Held] | None, now_s: float
    ) -> tuple[tuple[NotFlat, ...], bool]:
        """Return what is not ended, and whether orders other than tickets still work."""
        own = {sent.broker_id for sent in self.sent.values()}
        works: dict[Place, int] = {}
        is_cancelling = False
        for row in self.reads.works():
            if demand.covers_order(row.place, row.strategy_id):
                works[row.place] = works.get(row.place, 0) + 1
                is_cancelling = is_cancelling or row.order_id not in own
        doubts = {place for place, owner in self._world.doubts() if demand.covers_order(place, owner)}
        doubts |= {
            sent.ticket.place
            for sent in self.sent.values()
            if sent.state.is_doubtful and demand.covers_order(sent.ticket.place, sent.ticket.strategy_id)
        }
        nets = nets_of(self.reads, self._world, demand, believed)
        behind = {p for p in believed or {} if demand.covers_position(p) and self._is_behind(demand, p)}
        found = []
        for place in sorted({*works, *doubts, *nets, *behind}):
            net, why = nets.get(place, (0, None))
            if place in behind and net is not None:
                why = None  # what its books say of it is old
            if why is None and place in self.stopped:
                why = self.stopped[place]
            elif why is None and place in works:
                why = "an order still works there, or did a moment ago"
            elif why is None and place in doubts:
                why = "an order there has an unknown outcome"
            elif why is None and place in behind:
                why = _BEHIND
            elif why is None:
                why = self._waits(demand, place, net, now_s) or "it is being closed"
            found.append(NotFlat(place=place, quantity=net, open_orders=works.get(place, 0), why=why))
        return tuple(found), is_cancelling
