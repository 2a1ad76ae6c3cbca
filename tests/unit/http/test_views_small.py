"""The small rules of the views: numbers, pages, names, pace, clocks."""

from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
import pytest

from engine.domain.directory import Account, Source, Strategy
from engine.domain.enums import AccountStatus, OrderStatus, Role, SourceType
from engine.errors import NotFoundError, ValidationError
from engine.http.endpoint import Page
from engine.http.errors import encode
from engine.http.paging import PageQuery, PageWindow, decode_cursor
from engine.http.permissions import Principal
from engine.http.views import resources, sources
from engine.http.views.listing import made_at, page_of
from engine.http.views.numbers import amount_fault, tidy
from engine.http.views.ownership import only_owner, reachable
from engine.http.views.system import actor_view, find_child, oldest_pending_s, queue_view
from engine.http.webhook_auth import RefusalPace, is_allowed_from
from engine.ids import uuid7
from engine.runtime.child import ChildState, Status
from engine.runtime.mailbox import MailboxStats
from engine.secret import Secret
from tests.support.api import MovableClock

NOW = MovableClock().now()


def make_account(owner: UUID, **changes: Any) -> Account:
    account = Account(
        id=uuid7(),
        user_id=owner,
        label="a",
        broker="kite",
        capital=Decimal("1000.5000"),
        status=AccountStatus.ACTIVE,
        api_key="K-CANARY",
        api_secret=Secret("S-CANARY"),
        access_token=Secret("T-CANARY"),
    )
    return msgspec.structs.replace(account, **changes)


def make_source(**changes: Any) -> Source:
    source = Source(
        id=uuid7(),
        user_id=uuid7(),
        strategy_id=uuid7(),
        type=SourceType.SHEETS,
        name="s",
        api_key_hash=b"H",
        secret=Secret("S-CANARY"),
    )
    return msgspec.structs.replace(source, **changes)


def make_caller(role: Role) -> Principal:
    return Principal(user_id=uuid7(), email="a@b", name="", role=role, session_id=uuid7(), signed_in_at=NOW)


@pytest.mark.parametrize(
    ("amount", "text"),
    [("1450.500000", "1450.5"), ("1E+6", "1000000"), ("0.00005", "0"), ("-0.0000", "0"), ("2.34567", "2.3457")],
)
def test_tidy_amount_has_four_decimals_at_most_and_no_exponent(amount: str, text: str) -> None:
    assert str(tidy(Decimal(amount))) == text
    assert encode(tidy(Decimal(amount))) == text.encode()


@pytest.mark.parametrize(
    ("amount", "above", "fault"),
    [
        ("0", False, False),
        ("0", True, True),
        ("-0.01", False, True),
        ("1.0001", False, False),
        ("1.00001", False, True),
        ("NaN", False, True),
        ("Infinity", False, True),
        ("1E13", False, True),
    ],
)
def test_amount_fault_names_what_cannot_be_taken_in(amount: str, above: bool, fault: bool) -> None:
    assert (amount_fault(Decimal(amount), above=above) is not None) is fault


def walk(records: list[Account], limit: int) -> list[UUID]:
    seen: list[UUID] = []
    cursor = None
    while True:
        page: Page[Account] = page_of(records, PageQuery(limit=limit, cursor=cursor).window())
        seen += [record.id for record in page.items]
        cursor = page.next_cursor
        if cursor is None:
            return seen


def test_pages_of_records_give_each_once_newest_first() -> None:
    records = [make_account(uuid7()) for _ in range(7)]
    newest_first = sorted((record.id for record in records), reverse=True)
    assert walk(records, 3) == newest_first
    assert walk(records, 7) == newest_first


def test_page_window_uses_the_time_in_the_id() -> None:
    record = make_account(uuid7())
    at = made_at(record.id)
    assert page_of([record], PageWindow(start=at)).items
    assert not page_of([record], PageWindow(end=at)).items


def test_page_of_records_refuses_a_cursor_of_another_list() -> None:
    with pytest.raises(ValidationError):
        page_of([], PageWindow(cursor=decode_cursor("WzFd")))


def test_object_of_somebody_else_looks_missing_except_to_an_admin() -> None:
    trader, admin = make_caller(Role.TRADER), make_caller(Role.ADMIN)
    own, foreign = make_account(trader.user_id), make_account(uuid7())
    assert reachable(trader, own, "account") is own
    assert reachable(admin, foreign, "account") is foreign
    texts = set()
    for found in (foreign, None):
        with pytest.raises(NotFoundError) as missing:
            reachable(trader, found, "account")
        texts.add(missing.value.message)
    assert len(texts) == 1
    assert (only_owner(trader), only_owner(admin)) == (trader.user_id, None)


def test_account_view_never_shows_a_key() -> None:
    shown = encode(resources.account_view(make_account(uuid7())))
    assert b"CANARY" not in shown
    contract = {"id", "label", "broker", "userId", "capital", "status", "statusReason", "marketProtection"}
    contract |= {"capitalFrom", "capitalReadAt"}
    of_login = {"brokerUserId", "loggedInAt", "exchanges", "products"}
    assert contract | of_login == set(msgspec.json.decode(shown))


def test_source_view_shows_no_secret_and_source_keys_view_shows_them_once() -> None:
    source = make_source()
    assert b"CANARY" not in encode(sources.source_view(source))
    shown = sources.source_keys_view(source, api_key="src_1", secret="x", base_url="https://e.test")
    assert (shown.api_key, shown.secret) == ("src_1", "x")
    assert shown.webhook_url == "https://e.test/api/v1/signals/sheets/webhook"


def test_webhook_path_of_tradingview_carries_the_secret_and_of_others_does_not() -> None:
    for kind in SourceType:
        path = sources.webhook_path(make_source(type=kind), "S3CRET")
        assert ("S3CRET" in path) is (kind is SourceType.TRADINGVIEW)


def test_strategy_view_lists_symbols_in_order() -> None:
    strategy = Strategy(id=uuid7(), user_id=uuid7(), name="s", allowed_symbols=frozenset({"SBIN", "INFY"}))
    assert resources.strategy_view(strategy).allowed_symbols == ("INFY", "SBIN")


@pytest.mark.parametrize("text", ["", " ", "é", "a\nb", "x" * 65])
def test_label_that_a_chat_could_not_name_is_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        resources.label(text)


def test_credential_fault_never_quotes_it() -> None:
    with pytest.raises(ValidationError) as refused:
        resources.credential("CANARY with blanks", "apiKey")
    assert "CANARY" not in str(refused.value.message) + str(refused.value.details)


@pytest.mark.parametrize("entry", ["10.0.0.1/0", "0177.0.0.1", "example.com", ""])
def test_address_that_is_none_is_refused(entry: str) -> None:
    with pytest.raises(ValidationError) as refused:
        resources.networks([entry])
    assert list(refused.value.details["fields"]) == ["ipAllowlist"]


def test_chats_are_for_telegram_only() -> None:
    assert resources.chats([-5, 7], SourceType.TELEGRAM) == frozenset({-5, 7})
    for given, kind in (([5], SourceType.SHEETS), ([0], SourceType.TELEGRAM)):
        with pytest.raises(ValidationError):
            resources.chats(given, kind)


@pytest.mark.parametrize(
    ("address", "allowed"),
    [("10.1.2.3", True), ("::ffff:10.1.2.3", True), ("11.0.0.1", False), ("unknown", False), ("fe80::1%eth0", False)],
)
def test_source_with_a_list_takes_only_addresses_on_it(address: str, allowed: bool) -> None:
    assert is_allowed_from(make_source(ip_allowlist=("10.0.0.0/8",)), address) is allowed
    assert is_allowed_from(make_source(), address)


def test_refusals_of_one_key_are_recorded_once_in_ten_seconds_and_counted() -> None:
    pace = RefusalPace()
    assert [pace.let("a", at) for at in (0.0, 1.0, 9.9)] == [0, None, None]
    assert pace.let("b", 9.95) == 2
    assert pace.let("a", 10.0) == 0


def test_refusals_of_many_keys_are_bounded_together() -> None:
    pace = RefusalPace()
    recorded = sum(pace.let(str(key), 1.0) is not None for key in range(1000))
    assert recorded == 50
    assert pace.let("late", 11.1) == 950


def make_stats(depth: int, age: float) -> MailboxStats:
    return MailboxStats(name="m", capacity=9, depth=depth, urgent_depth=0, dropped=1, refused=2, oldest_age_s=age)


def test_actor_view_keeps_the_tree_and_finds_a_child() -> None:
    leaf = ChildState(
        name="postgres", state=Status.BACKOFF, restarts=2, last_error="E", started_at=3.0, mailbox=make_stats(4, 1.5)
    )
    middle = ChildState(
        name="servers", state=Status.RUNNING, restarts=0, last_error=None, started_at=None, children=(leaf,)
    )
    root = msgspec.structs.replace(middle, name="engine", children=(middle,))
    view = actor_view(root, 10.0).children[0].children[0]
    assert (view.name, view.state, view.restarts, view.running_s, view.mailbox_depth) == (
        "postgres",
        Status.BACKOFF,
        2,
        7.0,
        4,
    )
    assert find_child(root, "postgres") is leaf
    assert find_child(root, "nobody") is None


def test_queue_view_adds_what_waits_and_takes_the_oldest() -> None:
    queue = queue_view(
        "execution",
        [make_stats(1, 0.5), make_stats(2, 2.0)],
        in_flight=3,
        waiting=4,
        oldest_waiting_s=1.0,
        retries=5,
        dead=None,
    )
    assert (queue.depth, queue.oldest_age_s, queue.in_flight, queue.retries, queue.dead) == (7, 2.0, 3, 5, None)


def test_oldest_pending_looks_at_pending_orders_only() -> None:
    clock = MovableClock()
    began = clock.now()
    clock.advance(4)
    later = clock.now()
    assert oldest_pending_s([(OrderStatus.OPEN, began), (OrderStatus.PENDING, later)], later) == 0
    assert oldest_pending_s([(OrderStatus.PENDING, began)], later) == 4
