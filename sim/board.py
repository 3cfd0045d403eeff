# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The simulated board, as a cocotb test sees it: whole frames in and out of an exported gateway, bursts over
its registers.

:func:`model` builds it, from outside the simulator; :class:`Board` drives it, inside. Python wakes once a
frame, not once a clock.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.queue import Queue
from cocotb.triggers import Lock, Timer

from spigate.firmware_py.errors import Unsound
from spigate.firmware_py.tables.bus import BusError, check_burst
from spigate.firmware_py.tables.punt import (
    InjectHeader,
    InjectMode,
    Place,
    PuntHeader,
    pack_inject,
    unpack_punt,
)
from spigate.hdl.contract.enums import Port
from spigate.sim import build

PERIOD_NS = 10
MAX_BYTES = 4096
"""Longest frame that the bus models play or collect."""
MAX_WORDS = 64
"""Words in one burst of the bus model; longer ones are cut up."""
FAULTS = (
    "took a beat back, or changed it while it waited",
    "left a hole in tkeep",
    "sent a frame too long for the bus model",
    "sent something beyond tkeep",
)


@dataclass(frozen=True)
class Arrival:
    """A frame that left the gateway; ``first`` and ``last`` are the clocks in which its first and its last
    beat did.
    """

    frame: bytes
    first: int
    last: int


class Source:
    """A port of the gateway that takes frames.

    Members
    -------
    sent : int
        Frames handed over so far.
    """

    def __init__(self, handle: Any):
        self._handle = handle
        self._turn = Lock()
        self.sent = 0

    def pause(self, clocks: int) -> None:
        """Of 256 clocks, in how many no beat begins: 0 none, 256 all."""
        self._handle.pause.value = clocks

    async def send(self, frame: bytes, *, damaged: bool = False) -> None:
        """Hands a frame over when all before it have been; returns when the next one may be, which is before
        this one's last beat is transferred. ``damaged``: the port marks it with ``tuser``.
        """
        if not 1 <= len(frame) <= MAX_BYTES:
            raise ValueError(f"A frame must have 1 to {MAX_BYTES} bytes, not {len(frame)}")
        async with self._turn:
            self._handle.frame.value = int.from_bytes(frame, "little")
            self._handle.length.value = len(frame)
            self._handle.damaged.value = damaged
            self._handle.request.value = not self._handle.accepted.value
            await self._handle.accepted.value_change
            self.sent += 1

    @property
    def transferred(self) -> int:
        """Frames whose last beat the gateway has taken."""
        return int(self._handle.frames.value)

    @property
    def started(self) -> int:
        """Clock in which the first beat of the frame begun last was taken."""
        return int(self._handle.started.value)


class Sink:
    """A port of the gateway that sends frames.

    Parameters
    ----------
    on_arrival
        Called with each :class:`Arrival` as it comes, instead of keeping it for :meth:`receive`.

    Members
    -------
    received : int
        Frames that have arrived so far.
    """

    def __init__(self, handle: Any, name: str, on_arrival: Callable[[Arrival], None] | None = None):
        self._handle, self._name = handle, name
        self._queue: Queue[Arrival] = Queue()
        self.on_arrival = on_arrival or self._queue.put_nowait
        self.received = 0

    def start(self) -> None:
        """Begins to collect; once, when the simulation has begun (before, signals have no value yet)."""
        cocotb.start_soon(self._collect())

    def pause(self, clocks: int) -> None:
        """Of 256 clocks, in how many the port is not ready: 0 none, 256 all."""
        self._handle.pause.value = clocks

    async def receive(self) -> Arrival:
        """The next frame; waits for one."""
        return await self._queue.get()

    def waiting(self) -> int:
        """Frames that :meth:`receive` would hand out at once."""
        return self._queue.qsize()

    def check(self) -> None:
        """Raises :class:`Unsound` where the gateway has broken the stream's rules at this port."""
        faults = int(self._handle.faults.value)
        broken = [text for bit, text in enumerate(FAULTS) if faults >> bit & 1]
        if broken:
            raise Unsound(f"At its port {self._name} the gateway {'; '.join(broken)}")

    async def _collect(self) -> None:
        handle = self._handle
        while True:
            await handle.frames.value_change
            self.received += 1
            length = int(handle.length.value)
            # What lies behind the frame's end may be undefined.
            bits = str(handle.frame.value)[-8 * length :]
            if set(bits) - {"0", "1"}:
                raise Unsound(f"At its port {self._name} the gateway sent undefined bits")
            self.on_arrival(
                Arrival(
                    int(bits, 2).to_bytes(length, "little"), int(handle.first.value), int(handle.last.value)
                )
            )


class BoardBus:
    """The gateway's registers, as :class:`~spigate.firmware_py.tables.bus.Bus`.

    Members
    -------
    bursts, words : int
        Bursts and words so far.
    """

    def __init__(self, handle: Any):
        self._handle = handle
        self._turn = Lock()
        self.bursts = self.words = 0

    async def read(self, address: int, count: int = 1) -> list[int]:
        """Words from consecutive addresses. Raises :class:`BusError` where one is refused."""
        check_burst(address, count)
        result = []
        for at in range(0, count, MAX_WORDS):
            result += await self._burst(address + 4 * at, [0] * min(MAX_WORDS, count - at), write=False)
        return result

    async def write(self, address: int, words: Sequence[int]) -> None:
        """Writes words to consecutive addresses. Raises :class:`BusError` where one is refused."""
        check_burst(address, len(words))
        for at in range(0, len(words), MAX_WORDS):
            await self._burst(address + 4 * at, words[at : at + MAX_WORDS], write=True)

    async def _burst(self, address: int, words: Sequence[int], *, write: bool) -> list[int]:
        handle = self._handle
        async with self._turn:
            handle.address.value = address
            handle.count.value = len(words)
            handle.write.value = write
            if write:
                handle.data.value = sum(word << 32 * at for at, word in enumerate(words))
            handle.request.value = not handle.accepted.value
            await handle.accepted.value_change
            self.bursts += 1
            self.words += len(words)
            refused = int(handle.refused.value) & (1 << len(words)) - 1
            if refused:
                at = (refused & -refused).bit_length() - 1
                raise BusError(
                    f"The gateway refused to {'write' if write else 'read'} {address + 4 * at:#06x}"
                )
            if write:
                return []
            result = int(handle.result.value)
            return [result >> 32 * at & 0xFFFF_FFFF for at in range(len(words))]


class BoardPuntPort:
    """The control element's packet port, as :class:`~spigate.firmware_py.tables.bus.PacketPort`."""

    def __init__(self, source: Source, sink: Sink):
        self._source, self._sink = source, sink

    async def receive(self) -> tuple[PuntHeader, bytes]:
        """The next punted frame; waits for one."""
        return unpack_punt((await self._sink.receive()).frame)

    async def inject(
        self, mode: InjectMode, port: Port, depth: int, frame: bytes, out_of: Place | None = None
    ) -> None:
        """Sends ``frame`` down."""
        await self._source.send(pack_inject(InjectHeader(mode, port, depth, out_of), frame))


class Board:
    """The gateway with something at each of its ports.

    Parameters
    ----------
    dut
        The module ``board``.
    serial : bool
        It was built with a host link (:func:`model`).

    Members
    -------
    network, server, inject : Source
    network_out, server_out, punt : Sink
    bus : BoardBus
    port : BoardPuntPort
        On ``inject`` and ``punt``. These, ``bus`` and ``port`` are not there on a board with ``serial``,
        where a host link leads to them.

    Whatever the guard at the network port stops ends the simulation as failed, unless :meth:`expect_guard`
    says that the test has made tables that are wrong.
    """

    def __init__(self, dut: Any, *, serial: bool = False):
        self._dut = dut
        self.network, self.server = Source(dut.network_in), Source(dut.server_in)
        self.network_out, self.server_out = Sink(dut.network_out, "network"), Sink(dut.server_out, "server")
        self._sources, self._sinks = [self.network, self.server], [self.network_out, self.server_out]
        if not serial:
            self.inject, self.punt = Source(dut.inject), Sink(dut.punt, "punt")
            self._sources.append(self.inject)
            self._sinks.append(self.punt)
            self.bus = BoardBus(dut.axil)
            self.port = BoardPuntPort(self.inject, self.punt)

    async def start(self) -> None:
        """Starts the clock and resets the gateway; nothing pauses."""
        ports: list[Source | Sink] = [*self._sources, *self._sinks]
        for port in ports:
            port.pause(0)
        self._dut.rst.value = 1
        # Icarus has not evaluated everything at time 0: a register without a reset would take on what is
        # still undefined.
        await Timer(PERIOD_NS, "ns")
        # The simulator toggles the clock itself; Python's own clock makes everything ten times slower.
        Clock(self._dut.clk, PERIOD_NS, "ns", impl="gpi").start()
        await self.clocks(4)
        for sink in self._sinks:
            sink.start()
        self._dut.rst.value = 0
        await self.clocks(2)

    @property
    def cycle(self) -> int:
        """Clocks since the simulation began."""
        return int(self._dut.cycle.value)

    def timer(self, count: int) -> Timer:
        """A trigger that fires after ``count`` clocks."""
        return Timer(count * PERIOD_NS, "ns")

    async def clocks(self, count: int) -> None:
        """Waits for ``count`` clocks."""
        await self.timer(count)

    def expect_guard(self) -> None:
        """The guard at the network port may stop packets from now on: the test sends some that must not
        leave.
        """
        self._dut.guard_may_stop.value = 1

    @property
    def guard_stops(self) -> int:
        """Packets that the guard has stopped."""
        return int(self._dut.guard_stops.value)

    def check(self) -> None:
        """Raises :class:`Unsound` where the gateway has broken the rules of a port."""
        for sink in self._sinks:
            sink.check()


def model(
    gateway: Path,
    *,
    beat_bytes: int,
    simulator: str = "verilator",
    waves: str = "",
    link: Path | None = None,
    clocks_a_bit: int = 0,
) -> build.Model:
    """Builds the board around the exported Verilog of a gateway with that beat. With the Verilog of a host
    ``link``, the control element's side is that and a serial line with so many clocks a bit.
    """
    folder = Path(__file__).parent
    serial = [folder / "serial_link.v", link, folder / "uart.v"] if link else []
    return build.build(
        [*serial, gateway, folder / "pump.v", folder / "board.v"],
        top="board",
        simulator=simulator,
        waves=waves,
        public=["packet_source", "packet_sink", "uart_host" if link else "axil_master"],
        settings={"BEAT_BYTES": beat_bytes, **({"CLOCKS_A_BIT": clocks_a_bit} if link else {})},
    )
