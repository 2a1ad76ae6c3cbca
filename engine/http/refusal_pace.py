"""How often what strangers can cause at will goes on record."""

from collections import OrderedDict

_QUIET_S = 10.0
_RECORDS_IN_QUIET = 50
_MAX_KEYS = 2_000


class RefusalPace:
    """Lets one refusal of each key through in 10 s, and 50 of all keys together; counts the others."""

    def __init__(self) -> None:
        self._last: OrderedDict[str, float] = OrderedDict()
        self._began = float("-inf")
        self._in_window = 0
        self._kept_back = 0

    def let(self, key: str, now_s: float) -> int | None:
        """Return how many refusals were kept back since the last one let through; None to keep this one back."""
        if now_s - self._began >= _QUIET_S:
            self._began, self._in_window = now_s, 0
        last = self._last.get(key)
        if self._in_window >= _RECORDS_IN_QUIET or (last is not None and now_s - last < _QUIET_S):
            self._kept_back += 1
            return None
        self._last.pop(key, None)
        self._last[key] = now_s
        if len(self._last) > _MAX_KEYS:
            self._last.popitem(last=False)
        self._in_window += 1
        kept_back, self._kept_back = self._kept_back, 0
        return kept_back
