"""The journal's keys, all in one hash slot, and its positions (the server's entry ids)."""

EPOCH = "{journal}:epoch"
"""Holds the name of the journal, so that a wiped or foreign server is noticed, and a writer that was superseded."""

PROBE = "{journal}:probe"
"""Written at every connect: a server that answers but cannot write counts as down."""

_LAST_SEQUENCE = 2**64 - 1


def name(epoch: str, fence: int) -> str:
    """Return the journal's name while the engine with the lease *fence* writes it."""
    return f"{epoch}:{fence}"


def read_name(name: str) -> tuple[str, int]:
    """Return epoch and fence of a journal's name; the fence is 0 when none was noted."""
    epoch, _, fence = name.partition(":")
    return epoch, int(fence) if fence.isdecimal() else 0


def is_superseded(name: str, *, by: str) -> bool:
    """Whether *name* is the same journal's under an earlier lease."""
    (epoch, fence), (other_epoch, other_fence) = read_name(name), read_name(by)
    return epoch == other_epoch and fence < other_fence


def kill(deployment: str) -> str:
    """Return the key that holds the kill records of a deployment by scope, whatever journal the stream is of."""
    return f"{{journal}}:kill:{deployment}"


def stream(epoch: str) -> str:
    """Return the key of the stream of one journal."""
    return f"{{journal}}:{epoch}"


def seen(epoch: str) -> str:
    """Return what the keys of remembered deliveries of one journal begin with."""
    return f"{{journal}}:{epoch}:seen:"


def order_of(position: str) -> tuple[int, int]:
    """Return a position (``milliseconds-sequence``) as something that sorts. Raises ValueError."""
    milliseconds, _, sequence = position.partition("-")
    return int(milliseconds), int(sequence or 0)


def after(position: str) -> str:
    """Return the first position after *position*; the ``(`` of exclusive ranges needs Redis 6.2."""
    milliseconds, sequence = order_of(position)
    return f"{milliseconds + 1}-0" if sequence >= _LAST_SEQUENCE else f"{milliseconds}-{sequence + 1}"


def before(position: str) -> str:
    """Return the last position before *position*. Raises ValueError for the very first."""
    milliseconds, sequence = order_of(position)
    if sequence:
        return f"{milliseconds}-{sequence - 1}"
    if not milliseconds:
        raise ValueError("nothing comes before position 0-0")
    return f"{milliseconds - 1}-{_LAST_SEQUENCE}"
