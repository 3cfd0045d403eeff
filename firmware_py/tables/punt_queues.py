# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""What comes up to the host waits by class, as it does in the gateware: no flood of one class takes another
one's place, or its turn.
"""

from collections import Counter, deque
from typing import Generic, TypeVar

from spigate.hdl.contract.enums import PuntClass

Item = TypeVar("Item")

ROOM = {
    PuntClass.IKE: 256,
    PuntClass.LINK: 256,
    PuntClass.EXCEPTION: 512,
    PuntClass.SPI: 256,
    PuntClass.REST: 512,
}
"""Items of each class that wait; what comes then is lost."""
SHARES = {PuntClass.IKE: 8, PuntClass.LINK: 4, PuntClass.EXCEPTION: 4, PuntClass.SPI: 1, PuntClass.REST: 2}
"""How often each class has its turn while all have something to do."""
_ROUND = 1 << 20


class Classes(Generic[Item]):
    """Queues of items, one a class. A class that had nothing to do for a while has the next turn, but saves
    up no more than that.

    Members
    -------
    lost : Counter of PuntClass
        Items that found their class full.
    """

    def __init__(self) -> None:
        self._queues: dict[PuntClass, deque[Item]] = {kind: deque() for kind in PuntClass}
        # When a class's next turn is, in time that passes with the turns (Demers, Keshav, Shenker: fair
        # queueing, 1989).
        self._turn: dict[PuntClass, int] = dict.fromkeys(PuntClass, 0)
        self._now = 0
        self.lost: Counter[PuntClass] = Counter()

    def __len__(self) -> int:
        return sum(map(len, self._queues.values()))

    def push(self, kind: PuntClass, item: Item) -> bool:
        """Puts an item at the end of its class. False: that is full, and the item is lost."""
        queue = self._queues[kind]
        if len(queue) >= ROOM[kind]:
            self.lost[kind] += 1
            return False
        if not queue:
            self._turn[kind] = max(self._turn[kind], self._now)
        queue.append(item)
        return True

    def pop(self) -> tuple[PuntClass, Item]:
        """The item whose turn it is, and its class. IndexError where there is none."""
        kind = min(
            (kind for kind, queue in self._queues.items() if queue),
            key=lambda kind: (self._turn[kind], kind),
            default=None,
        )
        if kind is None:
            raise IndexError("no item waits")
        self._now = self._turn[kind]
        self._turn[kind] += _ROUND // SHARES[kind]
        return kind, self._queues[kind].popleft()

    def take_lost(self) -> Counter[PuntClass]:
        """What was lost since the last call."""
        lost, self.lost = self.lost, Counter()
        return lost
