# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""A test of one's own around the exported core: cocotbext-axi at its ports, spigate's driver at its
registers.
"""

import logging
from ipaddress import ip_address

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, with_timeout
from cocotbext.axi import (
    AxiLiteBus,
    AxiLiteMaster,
    AxiResp,
    AxiStreamBus,
    AxiStreamFrame,
    AxiStreamSink,
    AxiStreamSource,
)

from spigate import BusError, CamEntry, CamKey, CfeSettings, Cipher, Direction, Driver, Mode, Port, Route, Sa

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

# cocotbext-axi tells every burst, and keys are in them.
logging.getLogger("cocotb.spigate").setLevel(logging.WARNING)


class Registers:
    """The AXI4-Lite port, as the driver wants it: 32-bit words at byte addresses."""

    def __init__(self, master: AxiLiteMaster):
        self.master = master

    async def read(self, address: int, count: int = 1) -> list[int]:
        answer = await self.master.read(address, 4 * count)
        if answer.resp != AxiResp.OKAY:
            raise BusError(f"reading {address:#06x}: {answer.resp!s}")
        return [int.from_bytes(answer.data[at : at + 4], "little") for at in range(0, 4 * count, 4)]

    async def write(self, address: int, words: list[int]) -> None:
        answer = await self.master.write(address, b"".join(word.to_bytes(4, "little") for word in words))
        if answer.resp != AxiResp.OKAY:
            raise BusError(f"writing {address:#06x}: {answer.resp!s}")


@cocotb.test()
async def an_esp_packet_is_decrypted(dut):
    Clock(dut.clk, 10, "ns", impl="gpi").start()
    dut.rst.value = 1
    await ClockCycles(dut.clk, 2)
    registers = Registers(AxiLiteMaster(AxiLiteBus.from_prefix(dut, "s_axil"), dut.clk, dut.rst))
    network = AxiStreamSource(AxiStreamBus.from_prefix(dut, "s_axis_network"), dut.clk, dut.rst)
    server = AxiStreamSink(AxiStreamBus.from_prefix(dut, "m_axis_server"), dut.clk, dut.rst)
    await ClockCycles(dut.clk, 2)
    dut.rst.value = 0

    driver = await Driver.open(registers)  # waits until the core has erased its tables
    await driver.write_sa(0, 7, SA, None)
    await driver.write_route(3, Route(Port.SERVER, decrement_ttl=True))
    await driver.add_cam(CamEntry(CamKey(GATEWAY, SPI), dfe=0, sa=7, route=3))
    await driver.configure(CfeSettings(enable=0b1))  # without it no decryptor takes a packet
    await driver.check()

    await network.send(AxiStreamFrame(ESP, tuser=0))
    frame = await with_timeout(server.recv(), 100, "us")
    assert bytes(frame.tdata)[14:] == CLEAR
    assert (await driver.counters()).dfes[0]["decrypted"] == 1
