# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Runs in the simulator, for test_ethernet.py: cocotbext-eth's RGMII PHY at the pins of a port that sends
what it receives.
"""

import random

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, Timer
from cocotbext.eth import GmiiFrame, RgmiiSink, RgmiiSource

from spigate.hdl.board.ethernet import LONGEST, Statistics
from spigate.sim.build import parameters

GAP = 12
"""Bytes between frames (IEEE 802.3 4.4.2)."""
BYTE_PS = 8000


class Bench:
    """A port with a PHY at its pins. The parameters ``rx_ps`` and ``tx_ps`` are periods of the clocks of
    125 MHz, and ``core_ps`` of the core's; they must be even.
    """

    def __init__(self, dut):
        self.dut = dut
        given = {"rx_ps": BYTE_PS, "tx_ps": BYTE_PS, "core_ps": 10_000} | parameters()
        self.random = random.Random(str(given))
        self.given = given
        for name in ("rst", "hold", "reset"):
            getattr(dut, name).value = 0
        self.source = RgmiiSource(dut.rx_data, dut.rx_ctl, dut.rx_clk)
        self.source.ifg = GAP

    async def start(self):
        dut = self.dut
        dut.rst.value = 1
        # An edge at time 0 would come before anything has its value.
        await Timer(1, "ns")
        for name, clock in (("core_ps", dut.clk), ("tx_ps", dut.tx125), ("rx_ps", dut.rx_clk)):
            Clock(clock, self.given[name], "ps", impl="gpi").start()
        await ClockCycles(dut.clk, 20)
        dut.rst.value = 0
        await ClockCycles(dut.clk, 20)
        self.sink = RgmiiSink(dut.tx_data, dut.tx_ctl, dut.tx_clk)
        for each in (self.source, self.sink):
            each.log.setLevel("WARNING")

    def frame(self, size: int) -> bytes:
        """A frame of ``size`` bytes without its check sequence."""
        return self.random.randbytes(size)

    async def settle(self):
        """Until everything sent has gone through, and a frame's time more."""
        await self.source.wait()
        await Timer(20, "us")

    def sent(self) -> list[bytes]:
        """What came out since, without check sequences, which are right."""
        found = []
        while not self.sink.empty():
            frame = self.sink.recv_nowait()
            assert frame.error is None and frame.get_preamble() == b"\x55" * 7 + b"\xd5"
            assert frame.check_fcs()
            found.append((frame.sim_time_start, frame.sim_time_end, bytes(frame.get_payload())))
        for (_, end, _), (start, _, _) in zip(found, found[1:], strict=False):
            assert round((start - end) / BYTE_PS) >= GAP
        return [payload for _, _, payload in found]

    def counted(self) -> dict[str, int]:
        """The port's statistics that are not 0."""
        value = int(self.dut.statistics.value)
        return {
            name: number
            for name, field in Statistics()
            if (number := value >> field.offset & (1 << field.width) - 1)
        }


@cocotb.test()
async def frames_back_to_back(dut):
    """Each length around the boundaries of beats, then the longest; gaps of 12 bytes."""
    bench = Bench(dut)
    await bench.start()
    sizes = [*range(60, 100), 256, 1514, 1518, LONGEST - 1, LONGEST, 60, 60, 60]
    frames = [bench.frame(size) for size in sizes]
    for frame in frames:
        bench.source.send_nowait(GmiiFrame.from_payload(frame))
    await bench.settle()
    assert bench.sent() == frames
    good = {"good": len(frames), "bytes": sum(sizes)}
    assert bench.counted() == {f"{way}_{name}": n for way in ("rx", "tx") for name, n in good.items()}


@cocotb.test()
async def gaps_that_clocks_have_shortened(dut):
    """What arrives may have lost some of its gap on the way (IEEE 802.3 annex 4A, and repeaters)."""
    bench = Bench(dut)
    bench.source.ifg = 5
    await bench.start()
    frames = [bench.frame(60 + at % 7) for at in range(8)]
    for frame in frames:
        bench.source.send_nowait(GmiiFrame.from_payload(frame))
    await bench.settle()
    assert bench.sent() == frames


@cocotb.test()
async def errors_are_counted_and_damage_nothing_else(dut):
    """A frame of each kind of error between two good ones."""
    bench = Bench(dut)
    await bench.start()
    good = GmiiFrame.from_payload

    def wrong_check():
        frame = good(bench.frame(100))
        frame.data[40] ^= 1
        return frame

    def error_at(position):
        frame = good(bench.frame(100))
        frame.error = [0] * len(frame.data)
        frame.error[position] = 1
        return frame

    def no_delimiter():
        frame = good(bench.frame(100))
        frame.data[7] = 0x55
        frame.data = bytearray(byte if byte != 0xD5 else 0xD4 for byte in frame.data)
        return frame

    wrong = {
        "rx_bad": [wrong_check(), error_at(8), error_at(50), error_at(-1), error_at(-4)],
        "rx_short": [good(bench.frame(size), min_len=0) for size in (1, 2, 30, 58, 59)],
        "rx_long": [good(bench.frame(size)) for size in (LONGEST + 1, LONGEST + 5, 2500)],
        "rx_preamble": [no_delimiter()],
    }
    kept = []
    for frame in (frame for frames in wrong.values() for frame in frames):
        kept.append(bench.frame(64))
        bench.source.send_nowait(good(kept[-1]))
        bench.source.send_nowait(frame)
    kept.append(bench.frame(64))
    bench.source.send_nowait(good(kept[-1]))
    await bench.settle()
    assert bench.sent() == kept
    both = {"good": len(kept), "bytes": 64 * len(kept)}
    assert bench.counted() == {
        **{kind: len(frames) for kind, frames in wrong.items()},
        **{f"{way}_{name}": n for way in ("rx", "tx") for name, n in both.items()},
    }


@cocotb.test()
async def a_core_that_does_not_take_frames_loses_whole_ones(dut):
    bench = Bench(dut)
    await bench.start()
    dut.hold.value = 1
    frames = [bench.frame(600) for _ in range(12)]
    for frame in frames:
        bench.source.send_nowait(GmiiFrame.from_payload(frame))
    await bench.settle()
    assert not bench.sent()
    dut.hold.value = 0
    await Timer(60, "us")
    held = bench.sent()
    assert held == frames[: len(held)] and 6 <= len(held) < 12
    counted = bench.counted()
    assert (counted["rx_good"], counted["rx_dropped"]) == (len(held), 12 - len(held))
    bench.source.send_nowait(GmiiFrame.from_payload(frames[-1]))
    await bench.settle()
    assert bench.sent() == frames[-1:]


@cocotb.test()
async def a_mac_that_was_set_back_goes_on(dut):
    """Also where the PHY's clock stood still meanwhile, as it does when a link is lost."""
    bench = Bench(dut)
    await bench.start()
    frames = [bench.frame(900) for _ in range(3)]
    for frame in frames:
        bench.source.send_nowait(GmiiFrame.from_payload(frame))
    await Timer(11, "us")
    dut.reset.value = 1
    await ClockCycles(dut.clk, 20)
    dut.reset.value = 0
    await bench.settle()
    while not bench.sink.empty():
        bench.sink.recv_nowait()
    before = bench.counted()
    assert before["rx_bad"] and before["tx_lost"]
    again = [bench.frame(64) for _ in range(3)]
    for frame in again:
        bench.source.send_nowait(GmiiFrame.from_payload(frame))
    await bench.settle()
    assert bench.sent() == again
    assert bench.counted()["rx_good"] == before["rx_good"] + 3


@cocotb.test()
async def fragments_are_no_frames(dut):
    """What is shorter than a check sequence never comes out, and what it costs is counted."""
    bench = Bench(dut)
    await bench.start()
    kept = []
    for size in (1, 2, 3, 4):
        bench.source.send_nowait(GmiiFrame.from_raw_payload(bench.frame(size)))
        for _ in range(2):
            kept.append(bench.frame(64))
            bench.source.send_nowait(GmiiFrame.from_payload(kept[-1]))
    await bench.settle()
    # LiteEth takes a fragment of one byte for the beginning of the frame behind it.
    assert bench.sent() == kept[1:]
    counted = bench.counted()
    assert (counted["rx_good"], counted["rx_bad"]) == (len(kept) - 1, 1)
