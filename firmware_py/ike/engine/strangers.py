# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""What anybody can make happen is told of so often and no more, so that nobody can fill the
operator's log.
"""

from collections import Counter, deque

from spigate.firmware_py.ike.engine.actions import Event, EventKind, Output
from spigate.firmware_py.ike.engine.timers import Timers

PERIOD_SECONDS = 10.0
PER_PERIOD = 20
"""So many events of all kinds are told of one by one in a period."""


class Strangers:
    """Tells of what those do who have not shown who they are.

    What is more than :data:`PER_PERIOD` in one period is counted, and told of at the period's end: one
    event a kind, whose ``count`` says how many it stands for.

    Parameters
    ----------
    timers : Timers
    outputs : deque of Output
        Where events go.
    """

    def __init__(self, timers: Timers, outputs: deque[Output]):
        self._timers = timers
        self._outputs = outputs
        self._told = 0
        self._left_out: Counter[EventKind] = Counter()
        self._last: dict[EventKind, Event] = {}

    def tell(self, now: float, event: Event) -> None:
        """``event`` happened at ``now``; it is told of now, or as one of many later."""
        if not self._told:
            self._timers.at(now + PERIOD_SECONDS, self._end)
        if self._told < PER_PERIOD:
            self._told += 1
            self._outputs.append(event)
        else:
            self._left_out[event.kind] += 1
            self._last[event.kind] = event

    def _end(self, now: float) -> None:
        for kind, number in self._left_out.items():
            last = self._last[kind]
            text = f"{number} more within {PERIOD_SECONDS:.0f} s; the last, {last.peer}: {last.text}"
            self._outputs.append(Event(kind, "", text, count=number))
        self._told = 0
        self._left_out.clear()
        self._last.clear()
