# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""A gateway at work in the simulator, with its control element: frames in, punts answered, and every frame
accounted for.
"""

from collections import Counter, deque
from typing import Any

from cocotb.triggers import Event, First

from spigate.firmware_py.control.element import ControlElement
from spigate.firmware_py.errors import Unsound
from spigate.firmware_py.tables.driver import Driver
from spigate.firmware_py.tables.punt import PuntHeader, unpack_punt
from spigate.firmware_py.words import counted
from spigate.hdl.contract import rdl
from spigate.hdl.contract.enums import Port, Reason
from spigate.hdl.contract.reasons import DROPS
from spigate.hdl.dfe.fill import QUEUE_BYTES, QUEUE_PACKETS
from spigate.hdl.dfe.job import BUFFERS
from spigate.hdl.net.packet import ALIGN
from spigate.sim.board import Arrival, Board
from spigate.sim.report import report

LOOK = 256
"""Clocks without an arrival after which the drop counters are read."""
STALLED = 40_000
"""Clocks without anything coming of the frames inside after which the gateway counts as hung."""


def holds(frame_bytes: int, *, lanes: int = 1) -> int:
    """Frames of that length that may be inside, all on their way through one DFE, without one being dropped
    for want of room: those in its lanes' buffers and those in its queue. Of several lanes one may be full
    before another."""
    longest_beat = 16
    beats = -(-(frame_bytes + ALIGN) // longest_beat)
    return (
        (BUFFERS if lanes == 1 else (BUFFERS - 2) * lanes)
        + min(QUEUE_PACKETS, QUEUE_BYTES // (beats * longest_beat))
        - 1
    )


class Session:
    """Feeds frames to a gateway and lets its control element answer punts.

    Up to ``window`` frames are inside at a time, so that all DFEs and lanes are at work, but not more than
    one DFE has room for: the gateway drops what does not fit. Where a punt comes up, no frame follows
    before all that are inside are accounted for (out, punted, dropped) and the control element has answered
    the punts in their order; so no packet of a flow overtakes an earlier one that had to go round by the
    control element.

    Parameters
    ----------
    board : Board
        Started.
    driver, control
        On the board's bus and port; the control element started.
    window : int
        Frames inside.

    Members
    -------
    sent : dict of Port to list of Arrival
        What left at NETWORK and SERVER.
    punted : list of (PuntHeader, bytes)
        What came up.
    dropped : Counter of Reason
        By the gateway, as its counters said last.
    """

    def __init__(self, board: Board, driver: Driver, control: ControlElement, *, window: int = 16):
        self._board, self._driver, self._control, self._window = board, driver, control, window
        self.sent: dict[Port, list[Arrival]] = {Port.NETWORK: [], Port.SERVER: []}
        self.punted: list[tuple[PuntHeader, bytes]] = []
        self.dropped: Counter[Reason] = Counter()
        self._punts: deque[tuple[PuntHeader, bytes]] = deque()
        self._longest = 0
        self._arrived = Event()
        self._begun, self.ended = board.cycle, board.cycle
        board.network_out.on_arrival = lambda arrival: self._leave(Port.NETWORK, arrival)
        board.server_out.on_arrival = lambda arrival: self._leave(Port.SERVER, arrival)
        board.punt.on_arrival = self._come_up

    def _leave(self, port: Port, arrival: Arrival) -> None:
        self.sent[port].append(arrival)
        self.ended = arrival.last
        self._arrived.set()

    def _come_up(self, arrival: Arrival) -> None:
        punt = unpack_punt(arrival.frame)
        self.punted.append(punt)
        self._punts.append(punt)
        self.ended = arrival.last
        self._arrived.set()

    @property
    def inside(self) -> int:
        """Frames handed to the gateway of which nothing is known yet."""
        board = self._board
        into = board.network.sent + board.server.sent + board.inject.sent
        out = board.network_out.received + board.server_out.received + board.punt.received
        return into - out - self.dropped.total()

    @property
    def cycles(self) -> int:
        """Clocks from the session's begin to the last frame that left."""
        return self.ended - self._begun

    async def feed(self, port: Port, frame: bytes, *, damaged: bool = False) -> None:
        """Lets ``frame`` come in at NETWORK or SERVER."""
        if self._punts:
            await self.settle()
        # The longest frame that may still be inside.
        self._longest = max(self._longest if self.inside else 0, len(frame))
        while self.inside >= min(self._window, holds(self._longest)):
            await self._wait()
        source = self._board.network if port == Port.NETWORK else self._board.server
        await source.send(frame, damaged=damaged)

    async def settle(self) -> None:
        """Waits until all frames are accounted for and all punts answered.

        Raises
        ------
        Unsound
            That never happens.
        """
        while True:
            while self.inside:
                await self._wait()
            if not self._punts:
                return
            # What an answer injects may come up again, and is then behind those that wait.
            for _ in range(len(self._punts)):
                await self._control.handle(*self._punts.popleft())

    async def _wait(self) -> None:
        """Waits until something becomes of a frame."""
        before, since = self.inside, self._board.cycle
        while self.inside == before:
            self._arrived.clear()
            await First(self._arrived.wait(), self._board.timer(LOOK))
            if not self._arrived.is_set():
                await self._read_drops()
            if self._board.cycle - since > STALLED:
                raise Unsound(
                    f"nothing has become of {counted(before, 'frame')} in the gateway in {STALLED} clocks"
                )

    async def _read_drops(self) -> None:
        register = rdl.registers()["drops"]
        counts = await self._board.bus.read(register.address, max(DROPS) + 1)
        self.dropped = Counter({reason: counts[reason] for reason in DROPS if counts[reason]})

    async def report(self) -> dict[str, Any]:
        """What happened, after :meth:`settle`.

        Raises
        ------
        Unsound
            As :func:`~spigate.sim.report.report` says, or the gateway broke the rules of a port.
        BusError
            It refused an access.
        """
        board, control = self._board, self._control
        await self._read_drops()
        board.check()
        await self._driver.check()
        return {
            **report(
                control,
                await self._driver.counters(),
                into={"network": board.network.sent, "server": board.server.sent},
                out={"network": board.network_out.received, "server": board.server_out.received},
                punted=board.punt.received,
                injected=board.inject.sent,
                dropped=self.dropped,
                cycles=self.cycles,
            ),
            "bus": {"bursts": board.bus.bursts, "words": board.bus.words},
        }
