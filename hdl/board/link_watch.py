# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Sets a port's MAC back when its link goes or comes: the received clock may stop or jump then, in the middle
of a frame.
"""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from spigate.hdl.board.mac import Inband
from spigate.hdl.board.mdio import PhyStatus

RESET_CLOCKS = 64
"""So long a MAC is set back: a clock of 2.5 MHz, which a PHY sends at 10 Mbit/s, has an edge meanwhile."""


class LinkWatch(wiring.Component):
    """Says whether a port's link is up, and sets its MAC back for :data:`RESET_CLOCKS` when that changes.

    A PHY that answers on the management bus is believed. Where none does, in-band status is, once it has said
    that there is a link: a PHY that sends none reads as down for ever. It must be steady. While the MAC is
    set back it reads as 0, and so until the first pause between frames; and a disturbed line may say
    anything. When a PHY ceases to answer and there is no in-band status, nothing is known, and nothing
    changes.

    Parameters
    ----------
    steady_clocks : int
        So long in-band status must have said the same. More than :data:`RESET_CLOCKS` and a frame's time.

    Members
    -------
    phy : In(PhyStatus)
    inband : In(Inband)
    up : Out(1)
    reset : Out(1)
    resets : Out(32)
        How often ``reset`` was asked for; wraps.
    """

    def __init__(self, *, steady_clocks: int):
        if not steady_clocks > RESET_CLOCKS:
            raise ValueError(f"steady_clocks must be more than {RESET_CLOCKS}, not {steady_clocks!r}")
        self._steady_clocks = steady_clocks
        super().__init__(
            {
                "phy": In(PhyStatus()),
                "inband": In(Inband()),
                "up": Out(1),
                "reset": Out(1),
                "resets": Out(32),
            }
        )

    def elaborate(self, platform):
        m = Module()
        steady, speaks = Signal(), Signal()
        clocks = Signal(range(self._steady_clocks))
        with m.If(self.inband.up == steady):
            m.d.sync += clocks.eq(0)
        with m.Elif(clocks != self._steady_clocks - 1):
            m.d.sync += clocks.eq(clocks + 1)
        with m.Else():
            m.d.sync += [clocks.eq(0), steady.eq(self.inband.up), speaks.eq(1)]
        now = Signal()
        m.d.comb += now.eq(Mux(self.phy.present, self.phy.up, Mux(speaks, steady, self.up)))
        left = Signal(range(RESET_CLOCKS + 1))
        m.d.sync += [self.up.eq(now), self.reset.eq(left != 0)]
        with m.If(now != self.up):
            m.d.sync += [left.eq(RESET_CLOCKS), self.resets.eq(self.resets + 1)]
        with m.Elif(left != 0):
            m.d.sync += left.eq(left - 1)
        return m
