"""The journal's cursor: moved along with what it passes, never past what is undecided."""

from uuid import UUID

from engine.actors.journal_progress import JournalProgress, Mark
from engine.actors.ledger_entry import LedgerEntry
from engine.store.ledger import JournalCursor

EPOCH = UUID(int=1)


class Item:
    """A passage: in the ledger once ``decide`` was called."""

    def __init__(self, progress):
        self.journal_id = None
        self.journal_failed = False
        self.entry = LedgerEntry()
        self.is_settled = False
        self._progress = progress
        progress.add(self)

    def answered(self, entry_id):
        self.journal_id = self._progress.answer(self, entry_id)
        self.journal_failed = self.journal_id is None
        self._progress.advance()
        return self

    def decide(self):
        self.is_settled, self.entry = True, None
        self._progress.advance()


def begun(position="0-0"):
    progress = JournalProgress()
    progress.begin(EPOCH, position)
    return progress


def ahead(progress, *items):
    cursor = progress.ahead([item.entry for item in items])
    assert cursor is None or cursor.epoch == EPOCH
    return cursor and cursor.position


def test_batch_takes_the_cursor_past_its_own_entries():
    progress = begun()
    first, second = Item(progress).answered("5-0"), Item(progress).answered("5-1")
    assert ahead(progress, first) == "5-0"
    assert ahead(progress, first, second) == "5-1"
    assert progress.position == "0-0", "not before they are on disk"


def test_batch_of_later_entries_does_not_pass_an_earlier_one():
    progress = begun()
    first, second = Item(progress).answered("5-0"), Item(progress).answered("6-0")
    assert ahead(progress, second) is None
    second.decide()
    assert ahead(progress) is None
    first.decide()
    assert ahead(progress) == "6-0"


def test_entry_whose_position_is_not_known_yet_stops_the_cursor():
    progress = begun()
    Item(progress).answered("5-0").decide()
    unanswered, later = Item(progress), Item(progress)
    assert ahead(progress, unanswered, later) == "5-0"
    unanswered.decide()
    unanswered.answered("7-0")
    assert progress.position == "7-0"


def test_entry_that_the_journal_failed_to_take_is_waited_for_and_gives_no_position():
    progress = begun()
    failed, later = Item(progress).answered(None), Item(progress).answered("6-0")
    assert ahead(progress, later) is None
    assert ahead(progress, failed, later) == "6-0"


def test_cursor_that_is_on_disk_is_not_written_again_and_one_that_may_not_be_is():
    progress = begun()
    item = Item(progress).answered("5-0")
    item.decide()
    assert (ahead(progress), progress.is_behind) == ("5-0", True)
    assert ahead(progress) == "5-0"
    progress.reached(JournalCursor(epoch=EPOCH, position="5-0"))
    assert (ahead(progress), progress.is_behind, progress.on_disk) == (None, False, "5-0")


def test_cursor_on_disk_never_goes_back_and_ignores_another_journal():
    progress = begun("5-0")
    progress.reached(JournalCursor(epoch=EPOCH, position="4-9"))
    progress.reached(JournalCursor(epoch=UUID(int=2), position="9-0"))
    assert progress.on_disk == "5-0"


def test_positions_compare_by_number_not_by_text():
    progress = begun("9-9")
    Item(progress).answered("10-10").decide()
    assert ahead(progress) == "10-10"


# entries of an earlier try


def test_earlier_tries_entry_holds_the_cursor_before_its_place():
    progress = begun()
    Item(progress).answered("1-0").decide()
    assert ahead(progress) == "1-0"
    blocker, later = Item(progress).answered("3-0"), Item(progress).answered("6-0")
    # the server had this at 4-0, and nobody heard its answer
    again = Item(progress).answered("4-0")
    assert again.journal_id == "4-0"
    blocker.decide()
    later.decide()
    assert ahead(progress) == "3-0", "6-0 would pass the undecided 4-0"
    assert progress.position == "3-0"
    assert ahead(progress, again) == "6-0"
    again.decide()
    assert progress.position == "6-0"


def test_earlier_tries_entry_that_the_cursor_may_have_passed_is_not_durable():
    progress = begun()
    later = Item(progress).answered("6-0")
    assert ahead(progress, later) == "6-0"  # in a transaction; nobody knows yet whether it commits
    again = Item(progress).answered("4-0")
    assert (again.journal_id, again.journal_failed) == (None, True)


def test_entry_answered_with_a_position_before_the_start_is_not_durable():
    assert Item(begun("50-0")).answered("49-0").journal_failed


# a wiped journal


def test_wiped_journal_forgets_what_only_it_had_and_goes_on_in_the_old_order():
    progress = begun()
    done, open_one, failed = Item(progress).answered("1-0"), Item(progress).answered("2-0"), Item(progress)
    failed.answered(None)
    other = Item(progress).answered("3-0")
    done.decide()
    unanswered = Item(progress)

    def forget(item):
        item.journal_id = None

    assert progress.lost(forget) == [open_one, other]
    assert ahead(progress, open_one, failed, other) == "1-0"
    open_one.answered("10-0")
    other.answered("11-0")
    unanswered.answered("12-0")
    assert ahead(progress, open_one, failed, other) == "11-0"


# entries without a passage


def test_mark_is_passed_at_once_or_when_its_letter_is_on_disk():
    progress = begun()
    progress.add(Mark("1-0"))
    progress.advance()
    assert progress.position == "1-0"
    buried = Mark("2-0", is_settled=False)
    buried.entry = LedgerEntry()
    progress.add(buried)
    progress.advance()
    assert ahead(progress) == "1-0"
    assert ahead(progress, buried) == "2-0"
    buried.settle()
    progress.advance()
    assert progress.position == "2-0"


def test_nothing_is_written_before_the_journal_is_named():
    progress = JournalProgress()
    Item(progress).answered("5-0").decide()
    assert progress.ahead([]) is None
    assert progress.position == "5-0"
