# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Limits how often one unknown SPI comes up to the control element."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from spigate.hdl.cfe.xor import parities
from spigate.hdl.contract import hashing
from spigate.hdl.net.memory import BlockMemory


class MissKey(data.StructLayout):
    """What tells one unknown SPI from another."""

    def __init__(self):
        super().__init__({"destination": 32, "spi": 32})


class MissLimiter(wiring.Component):
    """One punt per {destination, SPI} in ``interval`` clocks. A punt for which its class has no room is
    refused too, and begins no interval: the control element has not seen it.

    A small direct-mapped table remembers the latest punts; where two keys share a row, the later one
    displaces the other, which then may be punted again early. A punt of about 2^32 clocks ago may count as
    a fresh one, once. For ``rows`` clocks after a reset it forgets those of before, whose times are of
    another count; what comes in meanwhile begins no interval.

    Parameters
    ----------
    rows : int
        Of the table, a power of two.

    Members
    -------
    interval : In(24)
        ``miss_interval`` of :class:`spigate.hdl.net.descriptor.CfeControl`.
    open : In(1)
        The class SPI has a token and room.
    time : In(32)
        Free-running clock count.
    start : In(1)
        Asks for a punt. Not again before ``done``.
    key : In(MissKey)
        With ``start`` and until ``done``.
    done : Out(1), allowed : Out(1)
        :data:`LATENCY` clocks after ``start``.
    """

    LATENCY = 6

    def __init__(self, *, rows: int = 256):
        if rows < 2 or rows & rows - 1:
            raise ValueError(f"rows must be a power of two, not {rows!r}")
        self._rows = rows
        super().__init__(
            {
                "interval": In(24),
                "open": In(1),
                "time": In(32),
                "start": In(1),
                "key": In(MissKey()),
                "done": Out(1),
                "allowed": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        stored = data.StructLayout({"key": MissKey(), "valid": 1, "time": 32})
        m.submodules.memory = memory = BlockMemory(width=stored.size, depth=self._rows)

        # Clock 1: row. 2, 3: memory. 4: age and key. 5: recent? 6: decided.
        row = Signal(range(self._rows))
        running = Signal(self.LATENCY)
        last = Signal(stored)
        found = stored(memory.read_data)
        age = Signal(32)
        same = Signal(2)
        recent = Signal()
        m.d.sync += [
            running.eq(running << 1 | self.start),
            row.eq(parities(hashing.masks("misses", self.key.as_value().shape().width, len(row)), self.key)),
            age.eq(self.time - found.time),
            same[0].eq((found.key.destination == self.key.destination) & found.valid),
            same[1].eq(found.key.spi == self.key.spi),
            recent.eq(same.all() & (age[24:] == 0) & (age[:24] < self.interval)),
        ]

        m.d.sync += self.allowed.eq(~recent & self.open)
        forgotten = Signal(range(self._rows + 1))
        forgets = ~forgotten[-1]
        with m.If(forgets):
            m.d.sync += forgotten.eq(forgotten + 1)
        m.d.comb += [
            self.done.eq(running[-1]),
            last.key.eq(self.key),
            last.valid.eq(~forgets),
            last.time.eq(self.time),
            memory.read_address.eq(row),
            memory.write_address.eq(Mux(forgets, forgotten[:-1], row)),
            memory.write_data.eq(last),
            memory.write_enable.eq(self.done & self.allowed | forgets),
        ]
        return m
