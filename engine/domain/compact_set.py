"""Sets that a busy day makes large: values told by their hash, eight bytes each instead of a hundred and more."""

from array import array
from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Hashable, Iterable
from typing import Generic, TypeVar

T_contra = TypeVar("T_contra", bound=Hashable, contravariant=True)

# So many arrays, by the last bits of a hash: a new value moves a part of one of them.
_BUCKETS = 64


class CompactSet(Generic[T_contra]):
    """What was added and can be asked for, but not listed again.

    A value is told by Python's hash of it alone: of a million others one is taken for it once in ten trillion times
    (61 bits for numbers and UUIDs, 64 bits under a key of the process's own for strings).
    """

    __slots__ = ("_buckets",)

    def __init__(self, values: Iterable[T_contra] = ()) -> None:
        found: defaultdict[int, set[int]] = defaultdict(set)
        for number in map(hash, values):
            found[number % _BUCKETS].add(number)
        self._buckets: dict[int, array[int]] = {key: array("q", sorted(numbers)) for key, numbers in found.items()}

    def _insert(self, number: int) -> None:
        bucket = self._buckets.get(number % _BUCKETS)
        if bucket is None:
            self._buckets[number % _BUCKETS] = array("q", (number,))
        elif not _has(bucket, number):
            insort(bucket, number)

    def add(self, value: T_contra) -> None:
        """Hold *value*; nothing happens when it is held."""
        self._insert(hash(value))

    def discard(self, value: T_contra) -> None:
        """Hold *value* no more; nothing happens when it is not held."""
        number = hash(value)
        bucket = self._buckets.get(number % _BUCKETS)
        if bucket is not None and _has(bucket, number):
            del bucket[bisect_left(bucket, number)]

    def clear(self) -> None:
        """Hold nothing."""
        self._buckets.clear()

    def copy(self) -> "CompactSet[T_contra]":
        """Return what is held now, for good."""
        copied: CompactSet[T_contra] = CompactSet()
        copied._buckets = {key: bucket[:] for key, bucket in self._buckets.items()}
        return copied

    def __contains__(self, value: T_contra) -> bool:
        number = hash(value)
        bucket = self._buckets.get(number % _BUCKETS)
        return bucket is not None and _has(bucket, number)

    def __len__(self) -> int:
        return sum(map(len, self._buckets.values()))

    def __le__(self, others: Iterable[T_contra]) -> bool:
        """Whether all that is held is among *others*."""
        numbers = set(map(hash, others))
        return all(numbers.issuperset(bucket) for bucket in self._buckets.values())


def _has(bucket: "array[int]", number: int) -> bool:
    place = bisect_left(bucket, number)
    return place < len(bucket) and bucket[place] == number
