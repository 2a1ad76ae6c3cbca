"""Alerts to the people who are linked to an ADMIN: what a person must look at, told where he is.

No task and no mailbox of its own: it is called by the desk of alerts, never waits and never raises; the queue behind
it is that of `TelegramReplies`. Floods are kept back with a count. What is critical has a button to acknowledge it.
"""

from collections.abc import Callable, Iterable
from uuid import UUID

from engine.clock import Clock
from engine.domain.alert_notice import Notice
from engine.domain.alert_pace import AlertPace
from engine.domain.alert_rules import Severity
from engine.observability.redaction import redact_text
from engine.signals.chat_text import outside

_LONGEST = 1000
NAME = "telegram"
Buttons = tuple[tuple[str, str], ...]


class TelegramAlerts:
    """Tells *people* (the chats of linked administrators, asked each time) what is alerted.

    *ack_data* returns what the button of an alert carries in a chat.
    """

    def __init__(
        self,
        *,
        tell: Callable[[int, str, Buttons], None],
        people: Callable[[], Iterable[int]],
        clock: Clock,
        ack_data: Callable[[UUID, int], str],
    ) -> None:
        self._tell = tell
        self._people = people
        self._clock = clock
        self._ack_data = ack_data
        self._pace = AlertPace()

    def tell(self, notice: Notice) -> None:
        """Pass an alert on, unless too many were."""
        record = notice.record
        # one that is told again has the same words: the desk has seen to the time between
        words = f"{record.count}:{record.told_at}:{record.text}"
        kept_back = self._pace.let(record.subject, words, self._clock.boottime_ns() / 1e9)
        if kept_back is None:
            return
        # the words of brokers and of whoever named things are in it
        head = "STILL ALERT" if notice.again else "ALERT"
        said = f"{head} {outside(record.subject)}\n{outside(redact_text(record.text), _LONGEST)}"
        if record.count > 1:
            said += f"\nraised {record.count} times"
        if kept_back:
            said += f"\n{kept_back} more were kept back; GET /alerts has them"
        for chat_id in self._people():
            is_critical = record.severity is Severity.CRITICAL
            buttons = (("Acknowledge", self._ack_data(record.id, chat_id)),) if is_critical else ()
            self._tell(chat_id, said, buttons)
