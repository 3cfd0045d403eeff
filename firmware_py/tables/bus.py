# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""How the driver reaches registers and packets: two protocols with many backends, and a bus of plain memory
for tests.

Backends (a simulator, a socket, a serial port, UDP) live with what they need; the driver and the control
element know these only.
"""

from collections.abc import Sequence
from typing import Protocol

from spigate.firmware_py.errors import InputError, SpigateError
from spigate.firmware_py.tables.punt import InjectMode, Place, PuntHeader
from spigate.hdl.contract.enums import Port


class BusError(SpigateError):
    """The gateway refused an access (SLVERR), or the way to it is broken."""


class Bus(Protocol):
    """Registers of the gateway: 32-bit words at byte addresses that are multiples of 4."""

    async def read(self, address: int, count: int = 1) -> list[int]:
        """``count`` words from consecutive addresses, from ``address`` on, in one burst."""

    async def write(self, address: int, words: Sequence[int]) -> None:
        """Writes ``words`` to consecutive addresses, from ``address`` on, in one burst."""


class PacketPort(Protocol):
    """The control element's packet port. Frames are without alignment bytes and frame check sequence."""

    async def receive(self) -> tuple[PuntHeader, bytes]:
        """The next punted frame; waits for one."""

    async def inject(
        self, mode: InjectMode, port: Port, depth: int, frame: bytes, out_of: Place | None = None
    ) -> None:
        """Sends ``frame`` down with an :class:`~spigate.firmware_py.tables.punt.InjectHeader`; injected
        frames keep their order."""


class MemoryBus:
    """A bus whose registers are words of memory; what is written is remembered, burst by burst.

    Members
    -------
    words : dict of int to int
        Words by address; others read as 0.
    bursts : list of (int, list of int)
        Every write, as address and words.
    """

    def __init__(self, words: dict[int, int] | None = None):
        self.words: dict[int, int] = dict(words or {})
        self.bursts: list[tuple[int, list[int]]] = []

    async def read(self, address: int, count: int = 1) -> list[int]:
        check_burst(address, count)
        return [self.words.get(address + 4 * at, 0) for at in range(count)]

    async def write(self, address: int, words: Sequence[int]) -> None:
        check_burst(address, len(words))
        self.bursts.append((address, list(words)))
        for at, word in enumerate(words):
            if not 0 <= word < 1 << 32:
                raise InputError(f"A word must be 0 to 2^32 - 1, not {word!r}")
            self.words[address + 4 * at] = word


def check_burst(address: int, count: int) -> None:
    """Refuses a burst that no backend can do: unaligned, empty, or past the 16-bit address space."""
    if address % 4 or not 0 <= address < 1 << 16:
        raise InputError(f"address must be a multiple of 4 below 65536, not {address!r}")
    if not 1 <= count <= ((1 << 16) - address) // 4:
        raise InputError(
            f"a burst at {address:#x} must be 1 to {((1 << 16) - address) // 4} words, not {count!r}"
        )
