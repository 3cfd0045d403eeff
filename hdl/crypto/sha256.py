# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The rounds of SHA-256 (FIPS 180-4 6.2.2), two messages interleaved."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out


def big_sigma_0(x: Value) -> Value:
    return x.rotate_right(2) ^ x.rotate_right(13) ^ x.rotate_right(22)


def big_sigma_1(x: Value) -> Value:
    return x.rotate_right(6) ^ x.rotate_right(11) ^ x.rotate_right(25)


def small_sigma_0(x: Value) -> Value:
    return x.rotate_right(7) ^ x.rotate_right(18) ^ x[3:]


def small_sigma_1(x: Value) -> Value:
    return x.rotate_right(17) ^ x.rotate_right(19) ^ x[10:]


class RoundPorts(wiring.Signature):
    """What a round datapath is told and tells, seen from it.

    A round takes two clocks, stage 1 and stage 2. While one message is in stage 1 the other is in stage 2,
    so all that belongs to a message moves on in every clock and nothing is ever held. The digit in a name
    is the stage.

    The chaining value H is added on the way through the last rounds, so that the next block's first round
    follows the last one of this: word by word, ``h_a`` and ``h_e`` meet a and e of a round, and their sums
    wait for the last round's end.

    Members
    -------
    clear_2 : In(1)
        The state becomes zero instead of what the round makes of it; given for three rounds or more.
    last_2 : In(1)
        This is the last round: the state becomes the sums, the next block's H.
    kw_2 : In(32)
        K + W of the next round.
    h_a_1, h_e_1 : In(32)
        H3, H2, H1, 0 and H7, H6, H5, 0 in the last three rounds and the one behind. SHA-1 has only a: see
        there.
    h_0_1 : In(32)
        H0 in the last round, otherwise 0.
    h_4_2 : In(32)
        H4 in the last round but one, otherwise 0. Not for SHA-1.
    sum_a_2, sum_e_2 : Out(32)
        H3, H2, H1, H0 and H7, H6, H5, H4 for the next block, in the same four rounds.
    """

    def __init__(self):
        super().__init__(
            {
                "clear_2": In(1),
                "last_2": In(1),
                "kw_2": In(32),
                "h_a_1": In(32),
                "h_e_1": In(32),
                "h_0_1": In(32),
                "h_4_2": In(32),
                "sum_a_2": Out(32),
                "sum_e_2": Out(32),
            }
        )


class Sha256Rounds(wiring.Component):
    """A round every second clock for each of two messages. See :class:`RoundPorts`."""

    def __init__(self):
        super().__init__(
            {
                "ports": Out(RoundPorts()),
            }
        )

    def elaborate(self, platform):
        m = Module()
        ports = self.ports
        # h never appears: hkw is h + K + W of the round, computed in the round before.
        a1, b1, c1, d1, e1, f1, g1, hkw1 = state1 = [
            Signal(32, name=f"{name}1") for name in [*"abcdefg", "hkw"]
        ]
        a2, b2, c2, d2, e2, f2, g2 = state2 = [Signal(32, name=f"{name}2") for name in "abcdefg"]
        t1 = Signal(32)
        t2 = Signal(32)
        m.d.sync += [
            t1.eq(hkw1 + big_sigma_1(e1) + (g1 ^ (e1 & (f1 ^ g1)))),
            t2.eq(big_sigma_0(a1) + ((a1 & b1) | (c1 & (a1 | b1))) + ports.h_0_1),
            Cat(state2).eq(Cat(state1[:-1])),
            ports.sum_a_2.eq(a1 + ports.h_a_1),
            ports.sum_e_2.eq(e1 + ports.h_e_1),
        ]

        # Sums of the two rounds before.
        earlier_a, earlier_e = (
            [Signal(32, name=f"sum_{which}{age}_{stage}") for age in (1, 2) for stage in (1, 2)]
            for which in "ae"
        )
        m.d.sync += Cat(earlier_a).eq(Cat(ports.sum_a_2, earlier_a))
        m.d.sync += Cat(earlier_e).eq(Cat(ports.sum_e_2, earlier_e))

        last = ports.last_2
        # H4 enters by d, also where the state before the last round is zero; with c, d becomes zero by
        # itself.
        m.d.sync += d1.eq(Mux(last, earlier_a[3], c2) + ports.h_4_2)
        with m.If(ports.clear_2):
            m.d.sync += Cat(a1, b1, c1, e1, f1, g1, hkw1).eq(0)
        with m.Else():
            m.d.sync += [
                a1.eq(t1 + t2),
                b1.eq(Mux(last, ports.sum_a_2, a2)),
                c1.eq(Mux(last, earlier_a[1], b2)),
                e1.eq(d2 + t1),
                f1.eq(Mux(last, ports.sum_e_2, e2)),
                g1.eq(Mux(last, earlier_e[1], f2)),
                hkw1.eq(Mux(last, earlier_e[3], g2) + ports.kw_2),
            ]
        return m
