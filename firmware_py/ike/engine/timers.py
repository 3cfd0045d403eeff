# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Timers without a clock: what is due when, run by whoever knows the time."""

import heapq
from collections.abc import Callable
from functools import partial
from itertools import count

from spigate.firmware_py.ike.engine.boundary import Boundary, Owner


def _nobody() -> None:
    return None


class Timer:
    """A call that was asked for. :meth:`cancel` takes it back, and may come late or twice.

    Members
    -------
    owner : callable
        Gives the IKE SA that ends where the call raises.
    """

    __slots__ = ("when", "owner", "_call")

    def __init__(self, when: float, call: Callable[[float], None], owner: Owner):
        self.when = when
        self.owner = owner
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
    """All timers of an endpoint, soonest first. Memory follows those that are active.

    Parameters
    ----------
    boundary : Boundary
        Each timer runs within it, so that none keeps another from running.
    """

    def __init__(self, boundary: Boundary):
        self._boundary = boundary
        self._heap: list[tuple[float, int, Timer]] = []
        self._order = count()
        self._swept = 32

    def __len__(self) -> int:
        """How many are active."""
        return sum(entry[2].active for entry in self._heap)

    def at(self, when: float, call: Callable[[float], None], owner: Owner = _nobody) -> Timer:
        """Asks for ``call(now)`` at ``when``."""
        timer = Timer(when, call, owner)
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
            timer = heapq.heappop(self._heap)[2]
            self._boundary.run(now, partial(timer.run, now), timer.owner)
