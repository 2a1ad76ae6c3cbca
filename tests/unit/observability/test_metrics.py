import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.observability.metrics import DEFAULT_BOUNDS_NS, MAX_SERIES, Counter, Histogram, MetricClash, Registry


def test_counter_counts_and_cannot_shrink():
    counter = Counter()
    counter.inc()
    counter.inc(4)
    with pytest.raises(ValueError, match="gauge"):
        counter.inc(-1)
    assert counter.snapshot() == 5


def test_registry_returns_the_same_metric_for_the_same_labels():
    registry = Registry()
    registry.counter("orders", account="a", side="BUY").inc()
    registry.counter("orders", side="BUY", account="a").inc()
    registry.counter("orders", account="b", side="BUY").inc()
    assert registry.snapshot() == {"orders{account=a,side=BUY}": 2, "orders{account=b,side=BUY}": 1}


@pytest.mark.parametrize("labels", [{}, {"other": "label"}])
def test_registry_name_of_two_kinds_is_refused(labels):
    registry = Registry()
    registry.counter("orders")
    with pytest.raises(MetricClash, match="orders is a Counter"):
        registry.gauge("orders", **labels)


def test_registry_series_beyond_the_bound_share_one():
    registry = Registry()
    for number in range(MAX_SERIES + 50):
        registry.counter("orders", account=str(number)).inc()
    snapshot = registry.snapshot()
    assert len(snapshot) == MAX_SERIES + 1
    assert snapshot["orders{overflow=true}"] == 50


def test_gauge_is_set_or_read_when_asked():
    registry, depth = Registry(), [3]
    registry.gauge("lag").set(1.5)
    registry.gauge("depth").read_from(lambda: depth[0])
    depth[0] = 7
    assert registry.snapshot() == {"lag": 1.5, "depth": 7}


def test_histogram_quantiles_are_bucket_bounds():
    histogram = Histogram()
    for microseconds in [1] * 90 + [150] * 9 + [7_000]:
        histogram.observe_ns(microseconds * 1000)
    snapshot = histogram.snapshot()
    assert (snapshot["p50_ns"], snapshot["p95_ns"], snapshot["p999_ns"]) == (1_000, 200_000, 7_000_000)
    assert (snapshot["count"], snapshot["max_ns"]) == (100, 7_000_000)
    assert snapshot["sum_ns"] == (90 + 9 * 150 + 7_000) * 1000


def test_histogram_without_observations_is_all_zero():
    assert set(Histogram().snapshot().values()) == {0}


@pytest.mark.parametrize("bounds", [(), (2, 1), (1, 1)])
def test_histogram_with_unordered_bounds_is_refused(bounds):
    with pytest.raises(ValueError, match="rising"):
        Histogram(bounds)


@given(st.lists(st.integers(-10, 10**11), min_size=1, max_size=50), st.floats(0, 1))
def test_histogram_quantile_is_never_below_the_true_one(durations, share):
    histogram = Histogram()
    for duration in durations:
        histogram.observe_ns(duration)
    rank = max(1, -int(-share * len(durations) // 1))
    true = max(sorted(durations)[rank - 1], 0)
    assert true <= histogram.quantile_ns(share) <= max(*durations, 0)
    buckets = histogram.buckets()
    assert buckets[-1] == (None, len(durations))
    assert [bound for bound, _ in buckets[:-1]] == list(DEFAULT_BOUNDS_NS)
    assert all(count == sum(1 for duration in durations if max(duration, 0) <= bound) for bound, count in buckets[:-1])
