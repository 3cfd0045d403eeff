# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Where CAM entries go: cuckoo placement on the host, for a table that the gateway only looks up.

Every key has one slot in each way (:mod:`spigate.hdl.contract.hashing`). When all of a new key's slots are
taken, the shortest chain of moves that ends at a free slot makes room (R. Pagh, F. Rodler, "Cuckoo
hashing", 2004; with three ways more than 90 % of the slots fill). A move copies an entry to its new slot
before its old one is overwritten, so a lookup finds every live entry at every moment.
"""

from collections import deque
from dataclasses import dataclass

from spigate.firmware_py.errors import InputError, TableFull
from spigate.firmware_py.tables.interface import CamEntry, CamKey
from spigate.hdl.contract import hashing

SEARCH_LIMIT = 4096
"""Slots that the search for room looks at."""


@dataclass(frozen=True)
class SlotWrite:
    """One write to the CAM: ``entry`` into slot ``index``."""

    index: int
    entry: CamEntry


class Placement:
    """What is where in the CAM, and the writes that change it.

    The entries are taken as placed at once: the caller must carry the writes out, in order.

    Parameters
    ----------
    entries : int
        Keys that the CAM is built for.
    ways : int
        Ways of the CAM; must be what the hash functions are made for.
    rows : int or None
        Rows of each way, a power of two; None: those of a CAM that is built for ``entries``.
    """

    def __init__(self, entries: int, ways: int = hashing.WAYS, rows: int | None = None):
        if ways != hashing.WAYS:
            raise InputError(f"ways must be {hashing.WAYS}, not {ways!r}")
        self.entries = entries
        self.rows = hashing.cam_rows(entries) if rows is None else rows
        self._slots: dict[int, CamEntry] = {}
        self._where: dict[CamKey, int] = {}

    def __len__(self) -> int:
        return len(self._where)

    def find(self, key: CamKey) -> CamEntry | None:
        """The entry for ``key``."""
        index = self._where.get(key)
        return None if index is None else self._slots[index]

    def slots(self, key: CamKey) -> list[int]:
        """The slots in which ``key`` may be, one a way."""
        number = hashing.cam_key(
            destination=key.number, protocol=key.protocol, spi=key.spi, ipv6=key.destination.version == 6
        )
        return [way * self.rows + hashing.cam_row(way, number, self.rows) for way in range(hashing.WAYS)]

    def add(self, entry: CamEntry) -> list[SlotWrite]:
        """The writes that add ``entry``, or replace the one with the same key.

        Raises
        ------
        TableFull
            The CAM holds as many keys as it is built for, or no chain of moves ends at a free slot. Nothing
            has changed.
        """
        if entry.key in self._where:
            index = self._where[entry.key]
            self._slots[index] = entry
            return [SlotWrite(index, entry)]
        if len(self._where) >= self.entries:
            raise TableFull(f"The CAM is full: {self.entries} entries")
        path = self._path(entry.key)
        writes = [SlotWrite(to, self._slots[at]) for at, to in zip(path[-2::-1], path[:0:-1], strict=True)]
        writes.append(SlotWrite(path[0], entry))
        for write in writes:
            self._slots[write.index] = write.entry
            self._where[write.entry.key] = write.index
        return writes

    def _path(self, key: CamKey) -> list[int]:
        """Slots from one of ``key``'s to a free one; the entry in each may move to the next."""
        came_from: dict[int, int | None] = {slot: None for slot in self.slots(key)}
        queue = deque(came_from)
        while queue and len(came_from) < SEARCH_LIMIT:
            slot = queue.popleft()
            if slot not in self._slots:
                path, before = [slot], came_from[slot]
                while before is not None:
                    path.append(before)
                    before = came_from[before]
                return path[::-1]
            for other in self.slots(self._slots[slot].key):
                if other not in came_from:
                    came_from[other] = slot
                    queue.append(other)
        raise TableFull(
            f"The CAM has no room for {key.destination}, SPI 0x{key.spi:08x}: "
            f"{len(self._where)} of {self.entries} entries, {len(came_from)} slots searched"
        )

    def remove(self, key: CamKey) -> int | None:
        """Forgets ``key``: the slot that is to be erased; None where it is not there."""
        index = self._where.pop(key, None)
        if index is not None:
            del self._slots[index]
        return index
