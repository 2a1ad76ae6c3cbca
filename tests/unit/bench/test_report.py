from pathlib import Path
from xml.etree import ElementTree

import pytest

from engine.bench.rows import latency_row, throughput_row
from tests.benchmarks.report import BEGIN, END, Table, into_readme, rows_before, text, write
from tests.benchmarks.svg import Chart, Line, drawn, ticks

COUNTS = {"sent": 10.0, "accepted": 10.0, "lost": 0.0, "doubled": 0.0, "refused": 0.0, "foreign": 0.0}


def parsed(picture: str) -> ElementTree.Element:
    return ElementTree.fromstring(picture)  # noqa: S314 -- our own


def latencies(p50: float, p99: float, **changes: float) -> dict[str, float]:
    return {"order_p50_ms": p50, "order_p99_ms": p99, "order_p999_ms": p99 * 2} | COUNTS | changes


def test_latency_is_judged_against_the_peer_alone() -> None:
    alone = latency_row([latencies(2, 8)], rate=100, command="x")
    assert (alone.ok, alone.note) == (None, "peer: not compared")
    met = latency_row([latencies(2, 8), latencies(1, 9)], rate=100, command="x", peer=[latencies(20, 80)])
    assert met.ok is True
    assert met.shown.startswith("p50 1.50 (1.00 to 2.00) ms")
    assert latency_row([latencies(2, 8)], rate=100, command="x", peer=[latencies(19, 80)]).ok is False
    assert "3 refused" in latency_row([latencies(2, 8, refused=3)], rate=100, command="x").shown
    assert latency_row([latencies(2, 8, lost=1)], rate=100, command="x", peer=[latencies(99, 99)]).ok is False


def test_throughput_misses_with_a_single_doubled_order() -> None:
    assert throughput_row([{"signals_per_s": 2100.0} | COUNTS], command="x").ok is True
    assert throughput_row([{"signals_per_s": 2100.0} | COUNTS | {"doubled": 1.0}], command="x").ok is False
    assert (
        throughput_row([{"signals_per_s": 2100.0} | COUNTS], command="x", peer=[{"signals_per_s": 300.0}]).ok is False
    )


def table() -> Table:
    return Table(
        at="2026-11-30T08:00:00+00:00",
        machine="2 cores",
        fdatasync={"fdatasync_p50_ms": 0.2, "fdatasync_p99_ms": float("nan")},
        sizes="One run each.",
        rows=[latency_row([latencies(2, 8)], rate=100, command="the command")],
        latencies=[(25, 1.5, 4, 9), (100, 1.8, 6, 12)],
        throughputs=[(1, 900), (1000, 4000)],
        peer=False,
    )


def test_table_goes_between_the_markers_and_nowhere_else(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(f"# Before\n{BEGIN}\nold\n{END}\nafter\n")
    into_readme(readme, table(), "there.svg")
    first = readme.read_text()
    assert first.startswith("# Before\n")
    assert first.endswith(f"{END}\nafter\n")
    assert "old" not in first
    assert "![latency against rate, throughput against accounts](there.svg)" in first
    into_readme(readme, table(), "there.svg")
    assert readme.read_text() == first
    readme.write_text("no markers")
    with pytest.raises(ValueError, match="followed by"):
        into_readme(readme, table(), "x")


def test_text_names_target_verdict_and_command() -> None:
    said = text(table())
    for words in ("p50 2.00 ms", "not judged", "the command", "fdatasync that day: p50 0.20 ms"):
        assert words in said


def test_result_files_are_json_without_nan_and_a_picture(tmp_path: Path) -> None:
    write(table(), tmp_path)
    assert "NaN" not in (tmp_path / "table.json").read_text()
    picture = parsed((tmp_path / "table.svg").read_text())
    assert picture.tag.endswith("svg")
    assert len(list(picture.iter("{http://www.w3.org/2000/svg}polyline"))) == 4


def test_picture_survives_names_points_and_their_absence() -> None:
    parsed(drawn([Chart("a < b & c", "x", "y", [Line("<p>", [(1, 1)])]), Chart("none", "x", "y", [])]))


def test_ticks_cover_what_they_are_for() -> None:
    assert ticks(25, 800) == [20, 50, 100, 200, 500, 1000]
    assert ticks(1, 1) == [1]


def test_rows_of_an_earlier_table_are_as_they_were_and_say_of_which_day_they_are(tmp_path: Path) -> None:
    before = table()
    write(before, tmp_path)
    (row,) = rows_before(tmp_path)
    assert row.note == "peer: not compared; measured 2026-11-30"
    assert (row.name, row.shown, row.ok) == ("latency", before.rows[0].shown, None)
    assert row.figures["order_p50_ms"] == before.rows[0].figures["order_p50_ms"]
    before.rows = [row]
    write(before, tmp_path)
    assert rows_before(tmp_path) == [row], "said once"
