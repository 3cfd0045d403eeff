"""Timers without a clock: what is due when, run by whoever knows the time."""
import heapq
from collections.abc import Callable
from itertools import count


class Timer:
    """A call that was asked for. :meth:`cancel` takes it back, and may come late or twice."""

    __slots__ = ("when", "_call")

    def __init__(self, when: float, call: Callable[[float], None]):
        self.when = when
        self._call: Callable[[float], None] | None = call

    @property
    def active(self) -> bool:
        return self._call is not None

    def cancel(self) -> None:
        self._call = None

    def run(self, now: float) -> None:
        call, self._call = self._call, None
        if call is not None:
            call(now)


class Timers:
    """All timers of an endpoint, soonest first. Memory follows those that are active."""

    def __init__(self):
        self._heap: list[tuple[float, int, Timer]] = []
        self._order = count()
        self._swept = 32

    def at(self, when: float, call: Callable[[float], None]) -> Timer:
        """Asks for ``call(now)`` at ``when``."""
        timer = Timer(when, call)
        if len(self._heap) > 2 * self._swept:
            self._heap = [entry for entry in self._heap if entry[2].active]
            heapq.heapify(self._heap)
            self._swept = max(len(self._heap), 32)
        heapq.heappush(self._heap, (when, next(self._order), timer))
        return timer

    @property
    def next(self) -> float | None:
        """When the soonest is due."""
        while self._heap and not self._heap[0][2].active:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def run(self, now: float) -> None:
        """Runs all that are due at ``now``, and what they ask for if that is due too."""
        while self.next is not None and self.next <= now:
            heapq.heappop(self._heap)[2].run(now)
