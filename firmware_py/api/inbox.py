# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Frames that left a gateway, until a script takes them."""

import asyncio
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass

from spigate.firmware_py.errors import SpigateError
from spigate.firmware_py.tables.punt import PuntHeader
from spigate.hdl.contract.enums import Port, Reason

ROOM = 1 << 16
"""Frames that wait at the most."""


class ReceiveTimeout(SpigateError, TimeoutError):
    """No frame left the gateway in the time that was given."""


@dataclass(frozen=True)
class Packet:
    """A frame that left the gateway.

    Members
    -------
    port : Port
        NETWORK or SERVER; CE: it came up to the control element, and ``punt`` says why.
    frame : bytes
        From the Ethernet header on, without a frame check sequence.
    punt : PuntHeader or None
    """

    port: Port
    frame: bytes
    punt: PuntHeader | None = None

    @property
    def reason(self) -> Reason:
        """Why it came up to the control element; NONE where it left at NETWORK or SERVER."""
        return self.punt.reason if self.punt else Reason.NONE


class Inbox:
    """Used in the thread of the link's event loop alone.

    Parameters
    ----------
    at_once : bool
        All that becomes of a frame is there when the call that sent it returns: it makes no sense to wait.

    Members
    -------
    lost : int
        Frames that found :data:`ROOM` others waiting.
    """

    def __init__(self, *, at_once: bool = False):
        self.lost = 0
        self._at_once = at_once
        self._packets: deque[Packet] = deque()
        self._came = asyncio.Event()
        self._failure: SpigateError | None = None

    @property
    def failure(self) -> SpigateError | None:
        """Why no more can come; None where more can."""
        return self._failure

    def put(self, packet: Packet) -> None:
        """A frame has come."""
        if len(self._packets) < ROOM:
            self._packets.append(packet)
            self._came.set()
        else:
            self.lost += 1

    def fail(self, why: SpigateError) -> None:
        """No more can come: whoever waits hears ``why``."""
        if self._failure is None:
            self._failure = why
            self._came.set()

    async def get(self, ports: Collection[Port], seconds: float) -> Packet:
        """The first frame at one of the ``ports``; waits for one.

        Raises
        ------
        ReceiveTimeout
            None came within that time.
        SpigateError
            None can come any more.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + (0 if self._at_once else seconds)
        while (packet := self._take(ports)) is None:
            if self._failure is not None:
                raise self._failure
            self._came.clear()
            try:
                async with asyncio.timeout_at(end):
                    await self._came.wait()
            except TimeoutError:
                where = " or ".join(port.name.lower() for port in sorted(ports))
                within = "" if self._at_once else f" within {seconds:g} s"
                raise ReceiveTimeout(
                    f"no frame left at port {where}{within}; events and counters say what became of it"
                ) from None
        return packet

    def _take(self, ports: Collection[Port]) -> Packet | None:
        for packet in self._packets:
            if packet.port in ports:
                self._packets.remove(packet)
                return packet
        return None
