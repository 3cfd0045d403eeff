# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Frames in at one MAC and out at the other, and the control element's frames, over a UART: cocotbext-eth at
the GMII pins, spigate's driver behind LiteX's UARTBone.
"""

from ipaddress import ip_address

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, with_timeout
from cocotbext.eth import GmiiFrame, GmiiSink, GmiiSource
from uartbone import Uartbone, addresses

from spigate import CamEntry, CamKey, CfeSettings, Cipher, Direction, Driver, Mode, Port, Reason, Route, Sa

LINUX, GATEWAY, SPI = ip_address("192.0.2.1"), ip_address("192.0.2.2"), 0x7D2F38AB
# Key and salt, as ip xfrm state prints them.
SECRET = bytes.fromhex("6bb3a7f11512020a421c634521d5941daa4acfea")
SA = Sa(
    direction=Direction.INBOUND,
    mode=Mode.TUNNEL,
    source=LINUX,
    destination=GATEWAY,
    spi=SPI,
    cipher=Cipher.AES_GCM,
    key=SECRET[:16],
    salt=SECRET[16:],
    icv_bytes=16,
)
ESP = bytes.fromhex(  # from a Linux kernel
    "020000000002020000000001080045000054000040004032b674c0000201c00002027d2f38ab0000000135e3868c4353cb49ba"
    "0a93c5a4e38128da1a7153beec2e46544a6be3d80683ec6f47860bf22f486fff71d2fa4902cf30402c1de9fd0dceef"
)
CLEAR = bytes.fromhex("4500001c292940003e11ff910a01000a0a02000a9c4b0fa000083fdc")  # what Linux made of it
DROPS = 0x400  # counters by reason
HEADER = 18  # bytes in front of the control element's frames
DIRECT = 1  # mode of an injected frame: out at the port named, as it is


class Bench:
    def __init__(self, dut):
        self.dut, self.clk = dut, dut.clk
        self.host = Uartbone(dut.serial_rx, dut.serial_tx, bit=64)
        self.csr = addresses()

    def plug_in(self):
        """Partners at the ports. They cost much at every clock, so they come when the tables are written."""
        dut = self.dut
        self.network_source = GmiiSource(dut.network_rx_data, dut.network_rx_er, dut.network_rx_dv, dut.clk)
        self.sinks = {
            "network": GmiiSink(dut.network_tx_data, dut.network_tx_er, dut.network_tx_en, dut.clk),
            "server": GmiiSink(dut.server_tx_data, dut.server_tx_er, dut.server_tx_en, dut.clk),
        }

    async def punted(self) -> bytes:
        """The next frame that comes up."""
        frame = b""
        while True:
            high, low, status = await self.host.read(self.csr["gateway_punt_data"], 3)
            if not status & 1:
                await ClockCycles(self.clk, 1000)
                continue
            await self.host.write(self.csr["gateway_punt_next"], [1])
            beat = (high << 32 | low).to_bytes(8, "little")
            if status & 2:
                return frame + beat[: (status >> 8).bit_length()]
            frame += beat

    async def inject(self, frame: bytes) -> None:
        for at in range(0, len(frame), 8):
            beat = frame[at : at + 8]
            word = int.from_bytes(beat, "little")
            last = at + 8 >= len(frame)
            push = last | (1 << len(beat) - 1) << 8
            await self.host.write(self.csr["gateway_inject_data"], [word >> 32, word & 0xFFFF_FFFF, push])

    async def left(self, port: str) -> bytes:
        """The next frame that leaves at ``port``, without its frame check sequence, which is right."""
        frame = await with_timeout(self.sinks[port].recv(), 100, "us")
        assert frame.check_fcs() and frame.error is None
        return bytes(frame.get_payload())


@cocotb.test()
async def frames_pass_between_two_macs(dut):
    Clock(dut.clk, 8, "ns", impl="gpi").start()
    dut.sim_trace.value = 0
    dut.rst.value = 1
    bench = Bench(dut)
    await ClockCycles(dut.clk, 16)
    dut.rst.value = 0
    await ClockCycles(dut.clk, 16)

    registers = bench.host.at(bench.csr["spigate"])
    driver = await Driver.open(registers)  # it reads ID and capabilities first
    await driver.write_sa(0, 7, SA, None)
    await driver.write_route(3, Route(Port.SERVER, decrement_ttl=True))
    await driver.add_cam(CamEntry(CamKey(GATEWAY, SPI), dfe=0, sa=7, route=3))
    await driver.configure(CfeSettings(enable=0b1))
    await driver.check()

    bench.plug_in()
    damaged = GmiiFrame.from_payload(ESP)
    damaged.data[-8] ^= 1  # of the ciphertext
    await bench.network_source.send(damaged)
    await bench.network_source.send(GmiiFrame.from_payload(ESP))
    frame = await bench.left("server")
    assert len(frame) == 60 and frame[14:].rstrip(b"\0") == CLEAR  # the MAC has padded it
    assert await registers.read(DROPS + 4 * Reason.BAD_FRAME) == [1]

    # Nobody knows this SPI: the control element gets it, which answers.
    unknown = ESP[:34] + (SPI + 1).to_bytes(4, "big") + ESP[38:]
    await bench.network_source.send(GmiiFrame.from_payload(unknown))
    punt = await with_timeout(bench.punted(), 1, "ms")
    assert punt[1] == Reason.UNKNOWN_SPI and punt[HEADER:] == unknown
    answer = bytes(range(61))
    await bench.inject(bytes([1, DIRECT, Port.NETWORK]).ljust(HEADER, b"\0") + answer)
    assert await bench.left("network") == answer
