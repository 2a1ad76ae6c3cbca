"""Which alerts are passed on to people: each once in a while, and never a flood of them (SEC-104)."""

from collections import OrderedDict, deque

_SAME_S = 900.0
_WINDOW_S = 600.0
_MOST_IN_WINDOW = 20
_MOST_OF_SUBJECT = 5
_MOST_KNOWN = 1000


class AlertPace:
    """Lets the same alert through once in 15 minutes, 5 of a subject and 20 of all in 10; counts the others."""

    def __init__(self) -> None:
        self._told: OrderedDict[tuple[str, str], float] = OrderedDict()
        self._lately: deque[tuple[float, str]] = deque()
        self._kept_back = 0

    def let(self, subject: str, text: str, now_s: float) -> int | None:
        """Return how many were kept back since the last one let through; None to keep this one back.

        *now_s* is seconds of a steady clock.
        """
        while self._lately and self._lately[0][0] <= now_s - _WINDOW_S:
            self._lately.popleft()
        last = self._told.get((subject, text))
        if last is not None and now_s - last < _SAME_S:
            return None  # the same is no news, and no loss
        of_subject = sum(told == subject for _, told in self._lately)
        if len(self._lately) >= _MOST_IN_WINDOW or of_subject >= _MOST_OF_SUBJECT:
            self._kept_back += 1
            return None
        self._told.pop((subject, text), None)
        self._told[subject, text] = now_s
        while len(self._told) > _MOST_KNOWN:
            self._told.popitem(last=False)
        self._lately.append((now_s, subject))
        kept_back, self._kept_back = self._kept_back, 0
        return kept_back
