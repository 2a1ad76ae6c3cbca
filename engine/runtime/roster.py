"""A supervisor's memory, voice and patience: its children in start order, whom it tells, when it gives up."""

import random
from collections import deque
from collections.abc import Callable, Iterator

import structlog
import trio

from engine.runtime.child import Backoff, Child, ChildSpec, ChildState, EventKind, OnEscalate, Status, SupervisorEvent

_log = structlog.get_logger(__name__)


class Roster:
    """The children of one supervisor by name, in the order in which they are started."""

    def __init__(self, supervisor: str) -> None:
        self._supervisor = supervisor
        self._children: dict[str, Child] = {}

    def register(self, spec: ChildSpec, *, dynamic: bool) -> Child:
        """Append a child; raises `ValueError` if its name is taken."""
        if spec.name in self._children:
            raise ValueError(f"supervisor {self._supervisor} has a child named {spec.name} already")
        child = self._children[spec.name] = Child(spec, dynamic=dynamic)
        return child

    def forget(self, child: Child) -> None:
        """Take *child* off the roster, unless its task still runs."""
        if child in self and not child.is_live:
            del self._children[child.spec.name]

    def __getitem__(self, name: str) -> Child:
        return self._children[name]

    def __contains__(self, child: object) -> bool:
        return isinstance(child, Child) and self._children.get(child.spec.name) is child

    def __iter__(self) -> Iterator[Child]:
        """Iterate in start order over a copy: children come and go meanwhile."""
        return iter(list(self._children.values()))

    def __len__(self) -> int:
        return len(self._children)

    def names(self) -> set[str]:
        """Return the names on the roster."""
        return set(self._children)

    def from_child(self, first: Child) -> list[Child]:
        """Return *first* and those after it in start order; all, if it is no longer on the roster."""
        children = list(self)
        return children[children.index(first) :] if first in self else children

    def states(self) -> tuple[ChildState, ...]:
        """Return how each child stands, in start order."""
        return tuple(_state_of(child) for child in self)


def _state_of(child: Child) -> ChildState:
    spec = child.spec
    return ChildState(
        name=spec.name,
        state=child.status,
        restarts=child.restarts,
        last_error=child.last_error,
        started_at=child.started_at if child.status is Status.RUNNING else None,
        mailbox=None if spec.mailbox is None else spec.mailbox.stats(),
        children=() if spec.tree is None else spec.tree().children,
    )


class Announcer:
    """Tells a supervisor's events to whoever listens; a listener that fails is logged and harms nobody."""

    def __init__(self, supervisor: str, on_event: Callable[[SupervisorEvent], None] | None) -> None:
        self._supervisor = supervisor
        self._on_event = on_event

    def __call__(
        self, kind: EventKind, child: Child, error: Exception | None = None, delay_s: float | None = None
    ) -> None:
        """Tell that *kind* happened to *child*."""
        if self._on_event is None:
            return
        event = SupervisorEvent(
            kind=kind,
            supervisor=self._supervisor,
            child=child.spec.name,
            restarts=child.restarts,
            error=error,
            delay_s=delay_s,
        )
        try:
            self._on_event(event)
        except Exception:
            _log.exception("supervisor_listener_failed", supervisor=self._supervisor, child=child.spec.name, kind=kind)


class Patience:
    """Counts crashes within a sliding window; says how long to wait before the next start, or that it is over.

    Every child has a count of its own. With *in_group* all crashes of children that would escalate are
    also counted together, because each of them restarts the others.
    """

    def __init__(self, intensity: tuple[float, float], backoff: Backoff, rng: random.Random, *, in_group: bool) -> None:
        self._allowed, self._window_s = intensity
        self._backoff = backoff
        self._rng = rng
        self._in_group = in_group
        self._crashes: deque[float] = deque()

    def reset(self) -> None:
        """Forget the group's crashes."""
        self._crashes.clear()

    def delay_s(self, child: Child) -> float | None:
        """Count a crash of *child* now; return seconds to back off, or None if it was one too many."""
        spec = child.spec
        is_over = False
        if self._in_group and spec.on_escalate is OnEscalate.ESCALATE:
            is_over = _count(self._crashes, self._window_s) > self._allowed
        crash_count = _count(child.crashes, self._window_s if spec.window_s is None else spec.window_s)
        if is_over or crash_count > (self._allowed if spec.max_restarts is None else spec.max_restarts):
            return None
        return (spec.backoff or self._backoff).delay_s(crash_count, self._rng)


def _count(crashes: deque[float], window_s: float) -> int:
    now = trio.current_time()
    crashes.append(now)
    while crashes[0] < now - window_s:
        crashes.popleft()
    return len(crashes)
