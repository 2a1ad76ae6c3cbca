"""Which columns hold sealed secrets: what a rotation of keys seals anew, and where each record's place is.

A column that is missing here is found by `engine.store.key_rotation`, which then retires no key.
"""

import msgspec

NOT_SEALED = frozenset(
    {
        ("audit_logs", "prev_hash"),
        ("audit_logs", "hash"),
        ("data_keys", "id"),
        ("data_keys", "made_under"),
        ("data_key_wraps", "key_id"),
        ("data_key_wraps", "kek_id"),
        ("data_key_wraps", "wrapped"),
        ("idempotency_keys", "answer"),
    }
)
"""Columns of bytes that are looked at by nobody: they are large, the keys themselves, or gone within a day.

An answer that is kept for a repeat of its call and does not open any more says so (`engine.http.once`).
"""


class SealedColumn(msgspec.Struct, frozen=True, kw_only=True):
    """One column of a table whose rows have ``row_id``, ``version`` and ``user`` columns of these names."""

    table: str
    column: str
    row_id: str = "id"
    version: str = "row_version"
    user: str = "user_id"


SEALED_COLUMNS = (
    SealedColumn(table="kite_accounts", column="api_secret"),
    SealedColumn(table="kite_accounts", column="access_token"),
    SealedColumn(table="signal_sources", column="secret"),
    SealedColumn(table="signal_sources", column="old_secret"),
    SealedColumn(table="user_factors", column="seed", row_id="user_id"),
)
