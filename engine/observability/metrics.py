"""A small registry of counters, gauges and histograms, read as one JSON-ready snapshot.

Everything is used from the event loop's thread; an increment is one addition. Durations are nanoseconds.
"""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from engine.errors import EngineError

# 1 us to 10 s in steps of 1-2-5, in ns; what is longer falls into the last, open bucket.
DEFAULT_BOUNDS_NS = (*(step * 10**power for power in range(3, 10) for step in (1, 2, 5)), 10**10)
MAX_SERIES = 1000

Labels = tuple[tuple[str, str], ...]


class MetricClash(EngineError):
    """A metric name is used for two kinds of metric."""


class Counter:
    """A number that only grows."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0

    def inc(self, amount: int = 1) -> None:
        """Add *amount* (not negative)."""
        if amount < 0:
            raise ValueError(f"a counter cannot shrink by {-amount}: use a gauge")
        self.value += amount

    def snapshot(self) -> int:
        """Return the count."""
        return self.value


class Gauge:
    """A number that goes up and down, set or read from a function when asked."""

    __slots__ = ("_read", "value")

    def __init__(self) -> None:
        self.value = 0.0
        self._read: Callable[[], float] | None = None

    def set(self, value: float) -> None:
        """Set the number."""
        self.value = value

    def read_from(self, read: Callable[[], float]) -> None:
        """Ask *read* (must be quick) at every snapshot from now on."""
        self._read = read

    def snapshot(self) -> float:
        """Return the number as it is now."""
        return self.value if self._read is None else self._read()


class Histogram:
    """Durations (ns), or other whole numbers, in fixed buckets.

    Quantiles are upper bounds of their bucket, never above the maximum seen.
    """

    __slots__ = ("_bounds", "_counts", "count", "max_ns", "sum_ns")

    def __init__(self, bounds_ns: Sequence[int] = DEFAULT_BOUNDS_NS) -> None:
        if not bounds_ns or list(bounds_ns) != sorted(set(bounds_ns)):
            raise ValueError("histogram bounds must be given in strictly rising order")
        self._bounds = tuple(bounds_ns)
        self._counts = [0] * (len(self._bounds) + 1)
        self.count = 0
        self.sum_ns = 0
        self.max_ns = 0

    def observe_ns(self, duration_ns: int) -> None:
        """Count one duration; a negative one (a clock that stepped) counts as 0."""
        if duration_ns < 0:
            duration_ns = 0
        self._counts[bisect_left(self._bounds, duration_ns)] += 1
        self.count += 1
        self.sum_ns += duration_ns
        if duration_ns > self.max_ns:
            self.max_ns = duration_ns

    def quantile_ns(self, share: float) -> int:
        """Return a bound that *share* (0 to 1) of the durations do not exceed; 0 if there are none."""
        seen = 0
        for bound, count in zip(self._bounds, self._counts, strict=False):
            seen += count
            if seen and seen >= share * self.count:
                return min(bound, self.max_ns)
        return self.max_ns

    def buckets(self) -> list[tuple[int | None, int]]:
        """Return (upper bound in ns, cumulative count) per bucket; the last bound is None."""
        cumulative, rows = 0, []
        for bound, count in zip([*self._bounds, None], self._counts, strict=True):
            cumulative += count
            rows.append((bound, cumulative))
        return rows

    def snapshot(self) -> dict[str, int]:
        """Return count, sum, maximum and quantiles, in ns."""
        return {
            "count": self.count,
            "sum_ns": self.sum_ns,
            "max_ns": self.max_ns,
            "p50_ns": self.quantile_ns(0.5),
            "p95_ns": self.quantile_ns(0.95),
            "p99_ns": self.quantile_ns(0.99),
            "p999_ns": self.quantile_ns(0.999),
        }


MetricT = TypeVar("MetricT", Counter, Gauge, Histogram)


class Registry:
    """All metrics of the process by name and labels; asking for one makes it.

    A name has at most `MAX_SERIES` label sets; more share one labelled ``overflow="true"``, so that an
    unlucky label cannot eat the memory.
    """

    def __init__(self) -> None:
        self._metrics: dict[str, dict[Labels, Counter | Gauge | Histogram]] = {}

    def counter(self, name: str, **labels: str) -> Counter:
        """Return the counter of that name and labels; raises `MetricClash`."""
        return self._get(Counter, name, labels)

    def gauge(self, name: str, **labels: str) -> Gauge:
        """Return the gauge of that name and labels; raises `MetricClash`."""
        return self._get(Gauge, name, labels)

    def histogram(self, name: str, *, bounds: Sequence[int] | None = None, **labels: str) -> Histogram:
        """Return the histogram of that name and labels, made with *bounds* if it is new; raises `MetricClash`.

        One whose name ends in ``_ns`` holds nanoseconds; any other plain numbers, and needs *bounds* of its own.
        """
        make = Histogram if bounds is None else lambda: Histogram(bounds)
        return self._get(Histogram, name, labels, make)

    def _get(
        self, kind: type[MetricT], name: str, labels: dict[str, str], make: Callable[[], MetricT] | None = None
    ) -> MetricT:
        series = self._metrics.setdefault(name, {})
        key: Labels = tuple(sorted(labels.items()))
        if key not in series and len(series) >= MAX_SERIES:
            key = (("overflow", "true"),)
        metric = series.get(key)
        if metric is None:
            known = next(iter(series.values()), None)
            if known is not None and type(known) is not kind:
                raise MetricClash(f"metric {name} is a {type(known).__name__}, asked for as a {kind.__name__}")
            metric = series[key] = (make or kind)()
        if not isinstance(metric, kind):
            raise MetricClash(f"metric {name} is a {type(metric).__name__}, asked for as a {kind.__name__}")
        return metric

    def series(self) -> list[tuple[str, Labels, Counter | Gauge | Histogram]]:
        """Return every metric with name and labels, for a text format."""
        return [(name, labels, metric) for name, rows in self._metrics.items() for labels, metric in rows.items()]

    def snapshot(self) -> dict[str, Any]:
        """Return everything as JSON-ready values, keyed ``name`` or ``name{label=value,…}``."""
        return {_key(name, labels): metric.snapshot() for name, labels, metric in self.series()}


def _key(name: str, labels: Labels) -> str:
    return name if not labels else f"{name}{{{','.join(f'{label}={value}' for label, value in labels)}}}"
