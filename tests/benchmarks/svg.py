"""Line charts as SVG, written by hand: two panels need no library."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _HEIGHT = 460, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 14, 34, 48
_COLOURS = ("#1f6feb", "#d9822b", "#c23030", "#6e7781", "#2f9e44")


@dataclass(frozen=True)
class Line:
    """One line of a chart: its name and its points."""

    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Chart:
    """A chart on two logarithmic axes."""

    title: str
    x: str
    y: str
    lines: Sequence[Line]


def drawn(charts: Sequence[Chart]) -> str:
    """Return *charts* beside each other as one SVG."""
    width = _WIDTH * len(charts)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{_HEIGHT}" viewBox="0 0 {width} {_HEIGHT}" '
        'font-family="system-ui, sans-serif" font-size="11">',
        f'<rect width="{width}" height="{_HEIGHT}" fill="#ffffff"/>',
    ]
    for number, chart in enumerate(charts):
        parts.append(f'<g transform="translate({number * _WIDTH} 0)">')
        parts += _chart(chart)
        parts.append("</g>")
    return "\n".join((*parts, "</svg>", ""))


def ticks(least: float, greatest: float) -> list[float]:
    """Return 1, 2 and 5 times the powers of ten that cover *least* to *greatest*, both above 0."""
    found = []
    for power in range(math.floor(math.log10(least)), math.ceil(math.log10(greatest)) + 1):
        found += [step * 10.0**power for step in (1, 2, 5)]
    low = max((each for each in found if each <= least), default=found[0])
    high = min((each for each in found if each >= greatest), default=found[-1])
    return [each for each in found if low <= each <= high]


def _chart(chart: Chart) -> list[str]:
    points = [point for line in chart.lines for point in line.points if point[0] > 0 and point[1] > 0]
    parts = [f'<text x="{_LEFT}" y="18" font-size="13" font-weight="600">{escape(chart.title)}</text>']
    if not points:
        return [*parts, f'<text x="{_LEFT}" y="60" fill="#6e7781">not measured</text>']
    x_ticks = ticks(min(x for x, _ in points), max(x for x, _ in points))
    y_ticks = ticks(min(y for _, y in points), max(y for _, y in points))

    def at(value: float, marks: Sequence[float], begin: float, end: float) -> float:
        if marks[0] == marks[-1]:
            return (begin + end) / 2
        share = (math.log10(value) - math.log10(marks[0])) / (math.log10(marks[-1]) - math.log10(marks[0]))
        return round(begin + share * (end - begin), 1)

    def across(value: float) -> float:
        return at(value, x_ticks, _LEFT, _WIDTH - _RIGHT)

    def up(value: float) -> float:
        return at(value, y_ticks, _HEIGHT - _BOTTOM, _TOP)

    for mark in x_ticks:
        x = across(mark)
        parts.append(f'<path d="M{x} {_TOP}V{_HEIGHT - _BOTTOM}" stroke="#eaeef2"/>')
        parts.append(f'<text x="{x}" y="{_HEIGHT - _BOTTOM + 15}" text-anchor="middle">{mark:,g}</text>')
    for mark in y_ticks:
        y = up(mark)
        parts.append(f'<path d="M{_LEFT} {y}H{_WIDTH - _RIGHT}" stroke="#eaeef2"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4}" text-anchor="end">{mark:,g}</text>')
    for number, line in enumerate(chart.lines):
        colour = _COLOURS[number % len(_COLOURS)]
        shown = [(across(x), up(y)) for x, y in sorted(line.points) if x > 0 and y > 0]
        way = " ".join(f"{x},{y}" for x, y in shown)
        parts.append(f'<polyline points="{way}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x}" cy="{y}" r="3" fill="{colour}"/>' for x, y in shown]
        y = _TOP + 14 + 15 * number
        parts.append(f'<path d="M{_LEFT + 10} {y - 4}h16" stroke="{colour}" stroke-width="2"/>')
        parts.append(f'<text x="{_LEFT + 31}" y="{y}">{escape(line.name)}</text>')
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{_HEIGHT - 12}" text-anchor="middle" fill="#57606a">{escape(chart.x)}</text>')
    parts.append(
        f'<text transform="translate(14 {_HEIGHT / 2}) rotate(-90)" text-anchor="middle" fill="#57606a">'
        f"{escape(chart.y)}</text>"
    )
    return parts
