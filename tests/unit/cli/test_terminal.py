"""What commands draw on a terminal, and that a pipe gets plain lines."""

import io
import sys

import pytest

from engine.cli import terminal
from engine.cli.ops import bundled


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def tty(monkeypatch):
    """Turn what is printed from here on into a terminal's; pytest sets its own streams after fixtures have run."""
    return lambda: on_terminal(monkeypatch)


def on_terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("NO_COLOR", raising=False)
    made = Terminal()
    monkeypatch.setattr(sys, "stdout", made)
    monkeypatch.setattr(sys, "stderr", made)
    return made


def test_pipe_gets_the_plain_lines_and_nothing_else(capsys):
    terminal.say_table(("Name",), [("a",)], plain=["name a"])
    terminal.say_mark("ok", ": fine", ok=True)
    with terminal.progress("proving") as advance:
        advance(1, 2)
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("name a\nok: fine\n", "")


def test_terminal_gets_a_table_a_bar_and_colours(tty):
    shown_on = tty()
    terminal.say_table(("Name", ">Count"), [("a", 5)], plain=["unused"])
    terminal.say_mark("FAIL", ": broken", ok=False)
    with terminal.progress("proving") as advance:
        advance(1, 2)
    shown = shown_on.getvalue()
    assert "Count" in shown
    assert "unused" not in shown
    assert "\x1b[31m" in shown
    assert "proving" in shown


def test_no_color_takes_the_colours_away(tty, monkeypatch):
    shown_on = tty()
    monkeypatch.setenv("NO_COLOR", "1")
    terminal.say_mark("ok", ": fine", ok=True)
    terminal.say_table(("Name",), [("a",)], plain=[])
    assert "\x1b[3" not in shown_on.getvalue()


def test_dumb_terminal_is_treated_as_a_pipe(tty, monkeypatch):
    shown_on = tty()
    monkeypatch.setenv("TERM", "dumb")
    terminal.say_table(("Name",), [("a",)], plain=["plain"])
    assert shown_on.getvalue() == "plain\n"


def test_table_and_mark_cannot_be_steered_by_what_others_wrote(tty):
    shown_on = tty()
    terminal.say_table(("Name",), [("\x1b]0;owned\x07[red]x[/red]",)], plain=[])
    terminal.say_mark("ok", "\x1b[2Jgone", ok=True)
    shown = shown_on.getvalue()
    assert "\x1b]0" not in shown
    assert "\x1b[2J" not in shown
    assert "[red]x[/red]" in shown


def test_every_file_for_operators_is_exported_and_no_program_is():
    names = {str(name) for name, _ in bundled()}
    assert {"deploy/engine.service", "deploy/Containerfile", "deploy/nginx.conf"} <= names
    assert not [name for name in names if name.endswith((".py", ".pyc"))]
