"""The metrics of this process, and the ones on the path of a signal, each made once.

An observation is one bisect and four additions: no text, no lock.
"""

from engine.observability.metrics import Registry

METRICS = Registry()

STAGES = ("parsed", "decided", "accepted", "committed", "sent", "answered", "filled", "wire")
"""The stages of a signal's way, each from the one before it; ``wire`` is from receipt to the first byte to the broker.

Made here so that they are told before the first signal; whoever keeps the clock of stages observes them.
"""
for _stage in STAGES:
    METRICS.histogram("stage_ns", stage=_stage)
QUEUED = METRICS.histogram("stage_ns", stage="queued")
"""From the making of an order that had to wait to its turn at the broker: pacing, and others of its instrument."""

COUNTS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
JOURNAL_BATCH = METRICS.histogram("journal_batch_entries", bounds=COUNTS)
JOURNAL_APPEND = METRICS.histogram("journal_append_ns")
LEDGER_BATCH = METRICS.histogram("ledger_batch_entries", bounds=COUNTS)
LEDGER_COMMIT = METRICS.histogram("ledger_commit_ns")
LOOP_LAG = METRICS.histogram("event_loop_lag_ns")
GC_PAUSE = METRICS.histogram("gc_pause_ns")
REQUEST = METRICS.histogram("http_request_ns", door="api")
SIGNAL_REQUEST = METRICS.histogram("http_request_ns", door="signal")
BOOK_READ = METRICS.histogram("order_book_read_ns")

for _severity in ("info", "warning", "critical"):
    METRICS.counter("alerts_raised", severity=_severity, code="ALERT")

# who told first of a change of an order
NEWS_PUSH = METRICS.counter("witness_news", witness="push")
NEWS_POLL = METRICS.counter("witness_news", witness="poll")
NEWS_TRADES = METRICS.counter("witness_news", witness="trades")
