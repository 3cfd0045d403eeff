# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""An asynchronous serial line: one start bit, eight data bits, low one first, one stop bit (8N1)."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import In, Out

PHASE_BITS = 32
LEAST_CLOCKS = 4
"""Clocks a bit. With 8 or more, the two ends' rates may differ by 2%."""


def phase_step(clock_hz: float, baud: float) -> int:
    """What is added to a phase of :data:`PHASE_BITS` bits in each clock, so that it overflows once a bit.

    Raises
    ------
    ValueError
        There are fewer than :data:`LEAST_CLOCKS` clocks a bit.
    """
    if not 0 < baud * LEAST_CLOCKS <= clock_hz:
        raise ValueError(
            f"baud must be at most {clock_hz / LEAST_CLOCKS:.0f}, which is the clock divided by "
            f"{LEAST_CLOCKS}, not {baud!r}"
        )
    return round((1 << PHASE_BITS) * baud / clock_hz)


class UartReceiver(wiring.Component):
    """Bytes from a line. A bit is sampled in its middle, counted from the falling edge of the start bit.

    A start bit that is no longer low in its middle was a disturbance: nothing is received. A byte without a
    stop bit is dropped; the line must be high before another one begins.

    Parameters
    ----------
    clock_hz, baud : float
        Clocks and bits a second.

    Members
    -------
    pad : In(1)
        The line, not synchronised to the clock; 1 at rest.
    data : Out(8), received : Out(1)
        A byte, for one clock.
    framing_error : Out(1)
        For one clock: a byte without a stop bit.
    """

    def __init__(self, *, clock_hz: float, baud: float):
        self._step = phase_step(clock_hz, baud)
        super().__init__({"pad": In(1, init=1), "data": Out(8), "received": Out(1), "framing_error": Out(1)})

    def elaborate(self, platform):
        m = Module()
        line = Signal(init=1)
        m.submodules.synchronizer = FFSynchronizer(self.pad, line, init=1)
        phase = Signal(PHASE_BITS)
        tick = Signal()
        count = Signal(range(8))
        m.d.sync += Cat(phase, tick).eq(phase + self._step)
        with m.FSM():
            with m.State("IDLE"):
                # The next overflow is half a bit from the edge, which was one or two clocks ago.
                begin = (1 << PHASE_BITS - 1) + 3 * self._step // 2
                m.d.sync += [Cat(phase, tick).eq(begin), count.eq(0)]
                with m.If(~line):
                    m.next = "START"
            with m.State("START"):
                with m.If(tick):
                    m.next = "DATA"
                    with m.If(line):
                        m.next = "IDLE"
            with m.State("DATA"):
                with m.If(tick):
                    m.d.sync += [self.data.eq(Cat(self.data[1:], line)), count.eq(count + 1)]
                    with m.If(count.all()):
                        m.next = "STOP"
            with m.State("STOP"):
                with m.If(tick):
                    m.d.comb += [self.received.eq(line), self.framing_error.eq(~line)]
                    m.next = "REST"
                    with m.If(line):
                        m.next = "IDLE"
            with m.State("REST"):
                with m.If(line):
                    m.next = "IDLE"
        return m


class UartTransmitter(wiring.Component):
    """Bytes onto a line, back to back where they come so.

    Parameters
    ----------
    clock_hz, baud : float
        Clocks and bits a second.

    Members
    -------
    i : In(stream of 8)
    pad : Out(1)
        The line, out of a register; 1 at rest.
    """

    def __init__(self, *, clock_hz: float, baud: float):
        self._step = phase_step(clock_hz, baud)
        super().__init__({"i": In(stream.Signature(8)), "pad": Out(1, init=1)})

    def elaborate(self, platform):
        m = Module()
        phase = Signal(PHASE_BITS)
        tick = Signal()
        bits = Signal(9)
        left = Signal(range(11))
        m.d.comb += self.i.ready.eq(left == 0)
        with m.If(left == 0):
            m.d.sync += [phase.eq(0), tick.eq(0)]
            with m.If(self.i.valid):
                m.d.sync += [self.pad.eq(0), bits.eq(Cat(self.i.payload, 1)), left.eq(10)]
        with m.Else():
            m.d.sync += Cat(phase, tick).eq(phase + self._step)
            with m.If(tick):
                m.d.sync += [Cat(self.pad, bits).eq(Cat(bits, 1)), left.eq(left - 1)]
        return m
