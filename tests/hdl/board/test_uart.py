# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Sent and received at bit level, with clocks that do not agree."""

import pytest
from amaranth.hdl import Module
from amaranth.sim import Simulator

from spigate.hdl.board.uart import UartReceiver, UartTransmitter, phase_step
from tests.hdl.streams import PERIOD, put, simulate

CLOCK_HZ = 1 / PERIOD
BYTES = bytes([0x00, 0xFF, 0x55, 0xAA, 0x01, 0x80, 0x53, 0x7E])


def levels(data: bytes, bit: float, *, stop: int = 1, rest: float = 0) -> list[tuple[int, float]]:
    """A line: level and seconds of each piece; ``rest`` at the end."""
    line = []
    for byte in data:
        line += [(0, bit), *((byte >> at & 1, bit) for at in range(8)), (stop, bit)]
    return [*line, (1, rest)]


def received(baud: float, line: list[tuple[int, float]]) -> tuple[bytes, int]:
    """What the receiver takes from a line, and how many framing errors it sees."""
    dut = UartReceiver(clock_hz=CLOCK_HZ, baud=baud)
    found, errors = bytearray(), 0

    async def drive(ctx):
        await ctx.delay(2.3 * PERIOD)
        for level, seconds in line:
            ctx.set(dut.pad, level)
            if seconds:
                await ctx.delay(seconds)
        await ctx.delay(12 / baud)

    async def watch(ctx):
        nonlocal errors
        async for _, _, there, byte, error in ctx.tick().sample(dut.received, dut.data, dut.framing_error):
            errors += error
            if there:
                found.append(byte)

    simulator = Simulator(dut)
    simulator.add_clock(PERIOD)
    simulator.add_testbench(drive)
    simulator.add_testbench(watch, background=True)
    simulator.run()
    return bytes(found), errors


@pytest.mark.parametrize("clocks", [8, 8.6808, 33.3333, 100])
@pytest.mark.parametrize("offset", [-0.02, 0, 0.02])
def test_a_line_that_is_two_percent_off_is_read(clocks, offset):
    bit = clocks * PERIOD * (1 + offset)
    assert received(CLOCK_HZ / clocks, levels(BYTES, bit)) == (BYTES, 0)


@pytest.mark.parametrize("offset", [-0.1, 0.1])
def test_a_line_that_is_far_off_is_not(offset):
    """So the test before can fail."""
    assert received(CLOCK_HZ / 16, levels(BYTES, 16 * PERIOD * (1 + offset)))[0] != BYTES


def test_pauses_of_any_length_lie_between_bytes():
    bit = 9 * PERIOD
    line = [
        piece for at, byte in enumerate(BYTES) for piece in levels(bytes([byte]), bit, rest=at * 0.37 * bit)
    ]
    assert received(CLOCK_HZ / 9, line) == (BYTES, 0)


@pytest.mark.parametrize("share", [0.1, 0.3, 0.4])
def test_a_disturbance_shorter_than_half_a_bit_is_no_start_bit(share):
    bit = 16 * PERIOD
    line = [(0, share * bit), (1, 3 * bit), *levels(b"\x35", bit)]
    assert received(CLOCK_HZ / 16, line) == (b"\x35", 0)


def test_a_byte_without_stop_bit_is_counted_and_dropped():
    bit = 16 * PERIOD
    line = [*levels(b"\x41", bit, stop=0, rest=bit), *levels(b"\x42", bit)]
    assert received(CLOCK_HZ / 16, line) == (b"\x42", 1)


def test_a_break_is_one_error_however_long_it_is():
    bit = 16 * PERIOD
    line = [(0, 200 * bit), (1, bit), *levels(b"\x42", bit)]
    assert received(CLOCK_HZ / 16, line) == (b"\x42", 1)


@pytest.mark.parametrize("clocks", [4, 8, 33.3333])
def test_what_is_sent_is_received_back_to_back(clocks):
    baud = CLOCK_HZ / clocks
    m = Module()
    m.submodules.transmitter = transmitter = UartTransmitter(clock_hz=CLOCK_HZ, baud=baud)
    m.submodules.receiver = receiver = UartReceiver(clock_hz=CLOCK_HZ, baud=baud)
    m.d.comb += receiver.pad.eq(transmitter.pad)
    found = bytearray()

    async def send(ctx):
        await put(ctx, transmitter.i, BYTES)

    async def read(ctx):
        while len(found) < len(BYTES):
            _, _, there, byte = await ctx.tick().sample(receiver.received, receiver.data)
            if there:
                found.append(byte)

    simulate(m, send, read, clocks=round(len(BYTES) * 11 * clocks))
    assert bytes(found) == BYTES


def test_a_bit_lasts_as_long_as_the_rate_says_on_average():
    """3 Mbaud at 100 MHz are 33 1/3 clocks, not 33."""
    dut = UartTransmitter(clock_hz=100e6, baud=3e6)
    edges = []

    async def send(ctx):
        await put(ctx, dut.i, [0x55])

    async def watch(ctx):
        before = 1
        clock = 0
        while len(edges) < 10:
            _, _, level = await ctx.tick().sample(dut.pad)
            clock += 1
            if level != before:
                edges.append(clock)
            before = level

    simulate(dut, send, watch)
    assert abs(edges[9] - edges[0] - 9 * 100 / 3) <= 1


@pytest.mark.parametrize(("clock", "baud"), [(100e6, 26e6), (100e6, 0), (1e6, -5)])
def test_a_rate_that_the_clock_cannot_make_is_refused(clock, baud):
    with pytest.raises(ValueError, match=rf"baud must be at most {clock / 4:.0f}, which is the clock"):
        phase_step(clock, baud)
