# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Runs in the simulator, for tests/sim/test_board.py: frames and bursts through the stand-in gateway of
loopback.v.
"""

import random

import cocotb
import pytest

from spigate.firmware_py.tables.bus import BusError
from spigate.firmware_py.tables.punt import InjectMode
from spigate.hdl.contract.enums import Port
from spigate.sim.board import Board
from spigate.sim.build import parameters

PAUSES = [(0, 0), (180, 0), (0, 180), (128, 128)]


async def started(dut):
    board = Board(dut)
    await board.start()
    return board


async def send_all(source, frames):
    for frame in frames:
        await source.send(frame)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def frames_arrive_whole_and_in_order(dut):
    board = await started(dut)
    beat = parameters()["beat_bytes"]
    for seed, (source_pause, sink_pause) in enumerate(PAUSES):
        generator = random.Random(seed)
        frames = [generator.randbytes(n) for n in [*range(1, 3 * beat + 2), 64, 65, 1514, 1920, 4096]]
        for source, sink in ((board.network, board.server_out), (board.server, board.network_out)):
            source.pause(source_pause)
            sink.pause(sink_pause)
            task = cocotb.start_soon(send_all(source, frames))
            arrived = [await sink.receive() for _ in frames]
            await task
            assert [arrival.frame for arrival in arrived] == frames
            assert source.sent == len(frames) * (seed + 1)
    board.check()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def frames_follow_one_another_without_a_gap(dut):
    board = await started(dut)
    beat = parameters()["beat_bytes"]
    frames = [bytes([n]) * (8 * beat) for n in range(20)]
    task = cocotb.start_soon(send_all(board.network, frames))
    arrived = [await board.server_out.receive() for _ in frames]
    await task
    assert arrived[-1].last - arrived[0].first + 1 == 20 * 8
    assert all(arrival.last - arrival.first == 7 for arrival in arrived)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def a_stopped_port_stops_the_frames(dut):
    board = await started(dut)
    transferred = board.network.transferred
    board.server_out.pause(256)
    await board.network.send(bytes(100))
    await board.clocks(1000)
    assert not board.server_out.received and board.network.transferred == transferred
    board.server_out.pause(0)
    await board.server_out.receive()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def only_the_last_beat_of_a_damaged_frame_is_marked(dut):
    board = await started(dut)
    before = (await board.bus.read(0x8000))[0]
    for damaged in (False, True, False):
        await board.network.send(bytes(100), damaged=damaged)
        await board.server_out.receive()
    assert (await board.bus.read(0x8000))[0] == before + 1


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def bursts_reach_the_registers(dut):
    board = await started(dut)
    words = [random.Random(1).getrandbits(32) for _ in range(150)]
    await board.bus.write(0x100, words)
    assert await board.bus.read(0x100, 150) == words
    assert await board.bus.read(0x100 + 4 * 77) == [words[77]]
    await board.bus.write(0x104, [0xFFFF_FFFF])
    assert await board.bus.read(0x100, 3) == [words[0], 0xFFFF_FFFF, words[2]]


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def a_refused_access_is_named(dut):
    board = await started(dut)
    with pytest.raises(BusError, match="refused to write 0xf000"):
        await board.bus.write(0xEFFC, [1, 2])
    with pytest.raises(BusError, match="refused to read 0xf000"):
        await board.bus.read(0xEFF8, 4)
    assert await board.bus.read(0xEFFC) == [1]


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def the_punt_port_carries_headers(dut):
    board = await started(dut)
    # The stand-in sends what was injected straight back; an inject header reads as a punt for reason 1 from
    # the server port.
    await board.port.inject(InjectMode.DIRECT, Port.SERVER, 0, b"frame")
    header, frame = await board.port.receive()
    assert (header.reason, header.ingress, frame) == (1, Port.SERVER, b"frame")
