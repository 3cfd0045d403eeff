# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Inside the simulator: a gateway at work between two TAP devices and a control element.

:class:`Live` moves frames, and what its :class:`~spigate.sim.live_control.Control` moves, and lets the
simulation run while there is something to do.
"""

import select
import socket
from collections import deque
from itertools import islice
from typing import Any

import cocotb
from cocotb.triggers import Event

from spigate.firmware_py.daemon.links import Tap
from spigate.sim.board import MAX_BYTES, Arrival, Board, Sink, Source
from spigate.sim.live_control import Control
from spigate.sim.tally import Tally

POLL_CLOCKS = 100
"""Clocks between two looks at devices and sockets while something goes on in the gateway."""
IDLE_CLOCKS, IDLE_SECONDS = 20, 0.02
"""Otherwise; and so long it sleeps between them, at most."""
LINGER = 120
"""Looks without a frame in or out after which none is thought to be inside: 12,000 clocks, four times what
the longest one takes.
"""
MAX_WAITING = 4
"""Frames that wait in front of a port. The others wait in the device's queue, whose end drops, as a network
card's does.
"""


class _Device:
    """A TAP device that leads to a port of the gateway, and from it."""

    def __init__(self, tally: Tally, name: str, tap: Tap, source: Source, sink: Sink):
        self._tally, self._name, self.tap, self._source = tally, name, tap, source
        self._frames: deque[bytes] = deque()
        self._more = Event()
        sink.on_arrival = self._leave
        cocotb.start_soon(self._enter())

    @property
    def waiting(self) -> int:
        """Frames that have not been handed over."""
        return len(self._frames)

    def read(self) -> None:
        """Takes from the device what there is, and room for. Raises DeviceGone."""
        for frame in islice(self.tap.packets(), MAX_WAITING - len(self._frames)):
            if len(frame) > MAX_BYTES:
                self._tally.dropped["too long"] += 1
            else:
                self._frames.append(frame)
        self._more.set()

    async def _enter(self) -> None:
        while True:
            while self._frames:
                await self._source.send(self._frames[0])
                self._frames.popleft()
                self._tally.count(f"{self._name} in")
            self._more.clear()
            await self._more.wait()

    def _leave(self, arrival: Arrival) -> None:
        self._tally.count(f"{self._name} out")
        try:
            self.tap.write(arrival.frame)
        except OSError:  # it is down or full, or the frame is none that a host takes
            self._tally.dropped[f"at device {self._name}"] += 1


class Live:
    """A gateway between TAP devices and a control element.

    Parameters
    ----------
    board : Board
        Started.
    network, server : Tap
        What is at its ports.
    control : Control
    tally : Tally
        What happens is counted there.
    end : socket.socket
        When its other side is closed, the run is over.
    """

    def __init__(
        self, board: Board, network: Tap, server: Tap, control: Control, tally: Tally, end: socket.socket
    ):
        self._board, self._control, self._tally, self._end = board, control, tally, end
        self._devices = [
            _Device(tally, "network", network, board.network, board.network_out),
            _Device(tally, "server", server, board.server, board.server_out),
        ]
        tally.quiet = LINGER

    async def run(self) -> None:
        """Until the end is told.

        Raises
        ------
        Unsound
            The gateway broke the rules of a port.
        DeviceGone
            Somebody has taken a device away.
        """
        while self._poll(0 if self._busy else IDLE_SECONDS):
            self._tally.quiet += 1
            await self._board.clocks(POLL_CLOCKS if self._busy else IDLE_CLOCKS)
            self._board.check()

    @property
    def _busy(self) -> bool:
        return (
            self._control.busy
            or self._tally.quiet < LINGER
            or any(device.waiting for device in self._devices)
        )

    def _poll(self, seconds: float) -> bool:
        """Moves what comes within that time; False: the end."""
        devices = [device for device in self._devices if device.waiting < MAX_WAITING]
        reads: list[Any] = [self._end, *self._control.reads(), *(device.tap for device in devices)]
        readable, writable, _ = select.select(reads, self._control.writes(), [], seconds)
        if self._end in readable:
            return False
        for device in devices:
            if device.tap in readable:
                device.read()
        self._control.move(readable, writable)
        return True
