"""Two pairs of keys during a rotation: which secret goes with which key, and until when."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import msgspec

from engine.domain.directory import Directory, OldKeys, Source
from engine.domain.enums import SourceType
from engine.secret import Secret

END = datetime(2026, 11, 30, 4, 0, tzinfo=UTC)
BEFORE = END - timedelta(microseconds=1)
OLD, NEW = Secret("old"), Secret("new")


def source() -> Source:
    return Source(
        id=uuid4(),
        user_id=uuid4(),
        strategy_id=uuid4(),
        type=SourceType.WEBHOOK,
        name="s",
        api_key_hash=b"new",
        secret=NEW,
        old=OldKeys(api_key_hash=b"old", secret=OLD, until=END),
    )


def test_each_key_goes_with_its_own_secret_and_the_old_one_ends_on_time():
    one = source()
    assert one.secret_of_key(b"old", BEFORE) == OLD
    assert one.secret_of_key(b"new", BEFORE) == one.secret_of_key(b"new", END) == NEW
    # whether or not its record could be taken away by then
    assert one.secret_of_key(b"old", END) is None
    assert one.secret_of_key(b"other", BEFORE) is None
    assert (one.secrets(BEFORE), one.secrets(END)) == ((NEW, OLD), (NEW,))


def test_source_without_keys_is_opened_by_none():
    bare = msgspec.structs.replace(source(), api_key_hash=None, secret=None, old=None)
    assert bare.secrets(BEFORE) == ()
    assert bare.secret_of_key(b"", BEFORE) is None


def test_directory_finds_a_source_by_either_key_while_it_has_both():
    directory, one = Directory(), source()
    directory.put_source(one)
    assert directory.source_by_key_hash(b"old") == directory.source_by_key_hash(b"new") == one
    directory.put_source(msgspec.structs.replace(one, api_key_hash=b"newest", old=None))
    assert directory.source_by_key_hash(b"old") is directory.source_by_key_hash(b"new") is None
    directory.put_source(one)
    directory.remove(one.id)
    assert directory.source_by_key_hash(b"old") is directory.source_by_key_hash(b"new") is None
