# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The rounds of SHA-1 (FIPS 180-4 6.1.2), two messages interleaved."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from spigate.hdl.crypto.sha256 import RoundPorts


class Sha1Rounds(wiring.Component):
    """A round every second clock for each of two messages.

    Members
    -------
    ports
        See :class:`RoundPorts`. ``h_e_1`` has H4 in the last round. ``sum_e_2`` is the next block's H4 in
        the round behind it, and undefined before.
    mix_1 : In(2)
        Which f: the round's number divided by 20.
    rotate_1 : In(1)
        In the last two rounds but one, whose a enters the sums as c and d.
    """

    def __init__(self):
        super().__init__(
            {
                "ports": Out(RoundPorts()),
                "mix_1": In(2),
                "rotate_1": In(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        ports = self.ports
        # e never appears: ekw is e + K + W of the round, computed in the round before.
        a1, b1, c1, d1, ekw1 = state1 = [Signal(32, name=f"{name}1") for name in [*"abcd", "ekw"]]
        a2, b2, c2, d2 = state2 = [Signal(32, name=f"{name}2") for name in "abcd"]
        mixed = Signal(32)
        with m.Switch(self.mix_1):
            with m.Case(0):
                m.d.comb += mixed.eq(d1 ^ (b1 & (c1 ^ d1)))
            with m.Case(2):
                m.d.comb += mixed.eq((b1 & c1) | (d1 & (b1 | c1)))
            with m.Default():
                m.d.comb += mixed.eq(b1 ^ c1 ^ d1)
        left = Signal(32)
        right = Signal(32)
        sum_e1 = Signal(32)
        sum_e2 = Signal(32)
        m.d.sync += [
            left.eq(a1.rotate_left(5) + mixed),
            right.eq(ekw1 + ports.h_0_1),
            Cat(state2).eq(Cat(state1[:-1])),
            ports.sum_a_2.eq(Mux(self.rotate_1, a1.rotate_left(30), a1) + ports.h_a_1),
            sum_e2.eq(d1 + ports.h_e_1),
            sum_e1.eq(sum_e2),
            ports.sum_e_2.eq(sum_e1),
        ]

        # Sums of the two rounds before.
        earlier = [Signal(32, name=f"sum_a{age}_{stage}") for age in (1, 2) for stage in (1, 2)]
        m.d.sync += Cat(earlier).eq(Cat(ports.sum_a_2, earlier))

        last = ports.last_2
        with m.If(ports.clear_2):
            m.d.sync += Cat(state1).eq(0)
        with m.Else():
            m.d.sync += [
                a1.eq(left + right),
                b1.eq(Mux(last, ports.sum_a_2, a2)),
                c1.eq(Mux(last, earlier[1], b2.rotate_left(30))),
                d1.eq(Mux(last, earlier[3], c2)),
                ekw1.eq(Mux(last, sum_e2, d2) + ports.kw_2),
            ]
        return m
