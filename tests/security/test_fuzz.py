"""SEC-110: the readers on damaged input, by chance and bounded; longer, by coverage: ``python -m tests.fuzz``."""

from random import Random

import pytest

from engine.broker.kite.answer import AnswerReader, ProtocolError
from tests.fuzz.alone import mutated
from tests.fuzz.targets import TARGETS

_INPUTS = 800


@pytest.mark.parametrize("name", TARGETS)
def test_sec_110_reader_takes_good_input_and_stands_damaged_input(name: str) -> None:
    target, random = TARGETS[name], Random(name)
    for octets in (*target.seeds, b""):
        target.run(octets)
    for _ in range(_INPUTS):
        octets = mutated(random, target.seeds, target.words)
        try:
            target.run(octets)
        except Exception as error:
            error.add_note(octets.hex())
            raise


@pytest.mark.parametrize("status", [b"000", b"010", b"099"])
def test_sec_110_answer_whose_status_is_none_is_no_answer(status: bytes) -> None:
    """Found by fuzzing: it was taken for a final answer, and 0 means elsewhere that nothing was sent."""
    with pytest.raises(ProtocolError):
        AnswerReader(1000).feed(b"HTTP/1.1 " + status + b" OK\r\nContent-Length: 0\r\n\r\n")


def test_sec_110_connection_that_ends_after_interim_answers_gave_none() -> None:
    """Found by fuzzing: the end of the connection made a final answer of 100 Continue."""
    reader = AnswerReader(1000)
    reader.feed(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n")
    reader.feed_end()
    assert not reader.complete
