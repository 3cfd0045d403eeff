# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

from amaranth.hdl import Const, Module, Signal
from amaranth.sim import Simulator

from spigate.hdl.net.packet import Beat, swap_bytes
from tests.hdl.streams import beats


def test_byte_0_of_the_wire_is_in_the_low_bits_of_the_first_beat():
    first, second = beats(bytes(range(10)), 8)
    beat = Beat(8).const(first)
    assert beat.data & 0xFF == 0 and beat.data >> 8 & 0xFF == 1 and beat.data >> 56 == 7
    assert second["data"] & 0xFFFF == 0x0908 and second["count"] == 2 and second["last"]


def test_swap_bytes_reads_a_big_endian_field():
    # 192.0.2.1 on the wire is c0 00 02 01.
    field = Const(int.from_bytes(bytes.fromhex("c0000201"), "little"), 32)

    number = Signal(32)
    m = Module()
    m.d.comb += number.eq(swap_bytes(field))

    async def check(ctx):
        await ctx.delay(0)
        assert ctx.get(number) == 0xC0000201

    simulator = Simulator(m)
    simulator.add_testbench(check)
    simulator.run()
