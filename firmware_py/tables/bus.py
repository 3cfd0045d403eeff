# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""How the driver reaches registers and packets: two protocols with many backends.

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


class NotThere(InputError):
    """No gateway is where a URL says, at least not now; the message says what was found."""


class Gone(BusError):
    """The way to the gateway is broken, for good: nobody knows what stands in its tables."""


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


def check_burst(address: int, count: int, *, bits: int = 16) -> None:
    """Refuses a burst that no backend can do: unaligned, empty, or past the address space of so many bits."""
    end = 1 << bits
    if address % 4 or not 0 <= address < end:
        raise InputError(f"address must be a multiple of 4 below {end}, not {address!r}")
    if not 1 <= count <= (end - address) // 4:
        raise InputError(f"a burst at {address:#x} must be 1 to {(end - address) // 4} words, not {count!r}")
