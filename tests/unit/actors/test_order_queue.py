"""The queue against a plain model: accepted order for each instrument, one at a time, none lost."""

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from engine.actors.order_queue import OrderQueue
from engine.domain.enums import Exchange
from engine.domain.lanes import Lane

EXIT, ENTRY = Lane.EXIT, Lane.ENTRY
A, B = (Exchange.NSE, "INFY"), (Exchange.NSE, "SBIN")
NOW = 1_000  # ns of the boot-time clock
LATER = NOW + 60


def ids(count):
    return [UUID(int=n + 1) for n in range(count)]


def drain(queue):
    gone = []
    while (head := queue.next(ENTRY)) is not None:
        queue.remove(*head)
        gone.append(head[1])
    return gone


def test_orders_of_one_instrument_come_in_pushed_order():
    queue, orders = OrderQueue(), ids(3)
    for order in orders:
        queue.push(A, order, LATER)
    assert drain(queue) == orders
    assert len(queue) == 0
    assert queue.is_free(A)


def test_longest_waiting_instrument_comes_first():
    queue, (one, two, three) = OrderQueue(), ids(3)
    queue.push(B, one, LATER)
    queue.push(A, two, LATER)
    queue.push(B, three, LATER)
    assert drain(queue) == [one, two, three]


def test_busy_instrument_waits_while_the_other_goes():
    queue, (held, waiting, other) = OrderQueue(), ids(3)
    queue.hold(A, held)
    queue.push(A, waiting, LATER)
    queue.push(B, other, LATER)
    assert queue.next(ENTRY) == (B, other)
    queue.remove(B, other)
    assert queue.next(ENTRY) is None
    queue.free(A, held)
    assert queue.next(ENTRY) == (A, waiting)


def test_instrument_held_twice_is_free_after_the_second():
    queue, (one, two, waiting) = OrderQueue(), ids(3)
    queue.hold(A, one)
    queue.hold(A, two)
    queue.push(A, waiting, LATER)
    queue.free(A, one)
    assert queue.next(ENTRY) is None
    queue.free(A, two)
    assert queue.next(ENTRY) == (A, waiting)


def test_unrecorded_order_blocks_what_stands_behind_it_only():
    queue, (one, two, other) = OrderQueue(), ids(3)
    queue.push(A, one, LATER, recorded=False)
    queue.push(A, two, LATER)
    queue.push(B, other, LATER)
    assert queue.next(ENTRY) == (B, other)
    assert queue.waiting() == [(A, two), (B, other)]
    queue.record(A, one)
    assert drain(queue) == [one, two, other]


def test_removing_an_unrecorded_head_lets_the_next_go():
    queue, (one, two) = OrderQueue(), ids(2)
    queue.push(A, one, LATER, recorded=False)
    queue.push(A, two, LATER)
    assert queue.remove(A, one)
    assert not queue.remove(A, one)
    assert queue.next(ENTRY) == (A, two)


def test_exit_keeps_its_place_behind_the_orders_of_its_instrument():
    queue, (first, out, other) = OrderQueue(), ids(3)
    queue.push(A, first, LATER)
    queue.push(A, out, LATER)
    queue.push(B, other, LATER)
    queue.sort(A, out, EXIT)
    assert (queue.next(EXIT), queue.head(A)) == (None, first)
    queue.remove(A, first)
    assert (queue.next(EXIT), queue.next(ENTRY)) == ((A, out), (B, other))
    queue.sort(A, out, ENTRY)
    assert (queue.next(EXIT), queue.next(ENTRY)) == (None, (A, out))


def test_expired_tells_each_once_even_behind_a_busy_instrument():
    queue, (held, early, late) = OrderQueue(), ids(3)
    queue.hold(A, held)
    queue.push(A, late, NOW + 9)
    queue.push(A, early, NOW + 3)
    assert queue.expired(NOW) == []
    assert queue.expired(NOW + 3) == [(A, early)]
    assert queue.expired(NOW + 9) == [(A, late)]
    assert queue.expired(NOW + 99) == []


def test_expired_waits_for_an_order_to_be_recorded():
    queue, (order,) = OrderQueue(), ids(1)
    queue.push(A, order, NOW, recorded=False)
    assert queue.expired(NOW) == []
    queue.record(A, order)
    assert queue.expired(NOW) == [(A, order)]


def test_expired_leaves_out_what_has_gone():
    queue, (order,) = OrderQueue(), ids(1)
    queue.push(A, order, NOW)
    queue.remove(A, order)
    assert queue.expired(LATER) == []
    assert order not in queue


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["push", "push_new", "record", "go", "go_out", "free", "drop", "sort"]), st.integers(0, 2)
    ),
    max_size=60,
)


@given(STEPS)
def test_queue_does_what_a_plain_list_does(steps):
    queue = OrderQueue()
    keys = [(Exchange.NSE, name) for name in "XYZ"]
    waiting: list[tuple[tuple[Exchange, str], UUID]] = []
    unrecorded: set[UUID] = set()
    busy: dict[tuple[Exchange, str], UUID] = {}
    exits: set[UUID] = set()
    number = 0
    for step, index in steps:
        key = keys[index]
        if step.startswith("push"):
            number += 1
            order = UUID(int=number)
            queue.push(key, order, LATER, recorded=step == "push")
            waiting.append((key, order))
            if step == "push_new":
                unrecorded.add(order)
        elif step == "record" and unrecorded:
            order = min(unrecorded)
            unrecorded.discard(order)
            queue.record(next(k for k, o in waiting if o == order), order)
        elif step == "sort" and waiting:
            sorted_key, order = waiting[index % len(waiting)]
            queue.sort(sorted_key, order, ENTRY if order in exits else EXIT)
            exits ^= {order}
        elif step.startswith("go") and (head := queue.next(ENTRY if step == "go" else EXIT)) is not None:
            queue.remove(*head)
            queue.hold(*head)
            waiting.remove(head)
            busy[head[0]] = head[1]
        elif step == "free" and key in busy:
            queue.free(key, busy.pop(key))
        elif step == "drop" and waiting:
            gone = waiting.pop(index % len(waiting))
            unrecorded.discard(gone[1])
            assert queue.remove(*gone)
        heads = [next(entry for entry in waiting if entry[0] == k) for k in {k for k, _ in waiting}]
        free = [entry for entry in heads if entry[0] not in busy and entry[1] not in unrecorded]
        for lane in (EXIT, ENTRY):
            of_lane = [entry for entry in free if (entry[1] in exits) is (lane is EXIT)]
            assert queue.next(lane) == min(of_lane, key=lambda entry: entry[1], default=None)
        assert {k: queue.head(k) for k in keys} == dict.fromkeys(keys) | dict(free)
        assert len(queue) == len(waiting)
        assert all(queue.is_free(k) == (k not in busy and k not in {w for w, _ in waiting}) for k in keys)
        assert queue.waiting() == [entry for entry in waiting if entry[1] not in unrecorded]
