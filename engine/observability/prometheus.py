"""Numbers as Prometheus reads them: text exposition format 0.0.4 (prometheus.io, exposition formats)."""

import re
from collections.abc import Iterable, Mapping

import msgspec

from engine.observability.metrics import Counter, Gauge, Histogram, Registry

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_NS = 1e9
_NAME = re.compile(r"[^a-zA-Z0-9_]")


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One number of the family *name*, with its labels; a counter's name ends in ``_total``."""

    name: str
    value: float
    labels: Mapping[str, str] = {}
    is_counter: bool = False


def render(samples: Iterable[Sample], registry: Registry | None = None) -> str:
    """Return *samples*, and what *registry* measured, one family after the other."""
    families: dict[str, list[str]] = {}
    for sample in samples:
        kind = "counter" if sample.is_counter else "gauge"
        lines = families.setdefault(sample.name, [f"# TYPE {sample.name} {kind}"])
        lines.append(f"{sample.name}{_labels(sample.labels)} {_number(sample.value)}")
    for name, labels, metric in () if registry is None else registry.series():
        _measured(families, f"engine_{_NAME.sub('_', name)}", dict(labels), metric)
    return "".join(f"{line}\n" for lines in families.values() for line in lines)


def _measured(
    families: dict[str, list[str]], name: str, labels: dict[str, str], metric: Counter | Gauge | Histogram
) -> None:
    if isinstance(metric, Histogram):
        unit = _NS if name.endswith("_ns") else 1
        name = f"{name.removesuffix('_ns')}_seconds" if unit == _NS else name
        lines = families.setdefault(name, [f"# TYPE {name} histogram"])
        for bound, count in metric.buckets():
            shown = "+Inf" if bound is None else _number(bound / unit)
            lines.append(f"{name}_bucket{_labels({**labels, 'le': shown})} {count}")
        lines.append(f"{name}_sum{_labels(labels)} {_number(metric.sum_ns / unit)}")
        lines.append(f"{name}_count{_labels(labels)} {metric.count}")
        return
    is_counter = isinstance(metric, Counter)
    name += "_total" if is_counter else ""
    lines = families.setdefault(name, [f"# TYPE {name} {'counter' if is_counter else 'gauge'}"])
    lines.append(f"{name}{_labels(labels)} {_number(metric.snapshot())}")


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{_NAME.sub("_", name)}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(float(value))
