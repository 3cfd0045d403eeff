# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Runs in the simulator, for test_top.py: a whole board at its pins, with a PHY at either port and a host at
the UART.
"""

import random

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge, RisingEdge, Timer
from cocotbext.eth import GmiiFrame, RgmiiSink, RgmiiSource

from spigate.hdl.contract import rdl
from spigate.sim.build import parameters
from tests.hdl.board.phy import IDENTIFIER, Phy

SIDES = ("network", "server")
REGISTERS = rdl.registers("board")
WRITE, READ = 1, 2
"""LiteX's commands for bursts of words at addresses that count up."""


class Host:
    """Reads and writes words over the UART, as LiteX's UARTBone does."""

    def __init__(self, dut, baud: float):
        self.dut, self.bit = dut, Timer(round(1e12 / baud), "ps")
        self.half = Timer(round(0.5e12 / baud), "ps")
        dut.uart_rx.value = 1

    async def read(self, address: int, count: int = 1) -> list[int]:
        await self._send(bytes([READ, count]) + (address >> 2).to_bytes(4))
        return [int.from_bytes([await self._byte() for _ in range(4)]) for _ in range(count)]

    async def write(self, address: int, word: int) -> None:
        await self._send(bytes([WRITE, 1]) + (address >> 2).to_bytes(4) + word.to_bytes(4))

    async def _send(self, command: bytes) -> None:
        for byte in command:
            for value in (0, *(byte >> at & 1 for at in range(8)), 1):
                self.dut.uart_rx.value = value
                await self.bit

    async def _byte(self) -> int:
        await FallingEdge(self.dut.uart_tx)
        await self.half
        bits = []
        for _ in range(8):
            await self.bit
            bits.append(int(self.dut.uart_tx.value))
        await self.bit
        assert int(self.dut.uart_tx.value) == 1
        return sum(bit << at for at, bit in enumerate(bits))


async def polls(host, index: int) -> int:
    (word,) = await host.read(REGISTERS["port.phy"].at(index))
    return REGISTERS["port.phy"].unpack(word)["polls"]


async def management(dut, phys):
    """PHYs on the bus, which answer in the middle of the 300 ns that they may take."""
    dut.mdio_drives.value = 0
    while True:
        await RisingEdge(dut.mdc)
        bit = int(dut.mdio.value)
        drives = [each for each in [phy.edge(bit) for phy in phys] if each is not None]
        await Timer(150, "ns")
        dut.mdio_drives.value = len(drives)
        dut.mdio_value.value = sum(drives)


@cocotb.test()
async def a_bridge_from_pin_to_pin(dut):
    """Frames pass both ways at once; the host reads who it is, what the ports have counted, and what PHYs say
    on their bus: the server's has another identifier, and no link.
    """
    rng = random.Random(1)
    host = Host(dut, parameters()["baud"])
    dut.reset_n.value = 1
    sources, sinks = {}, {}
    for side in SIDES:
        clock = getattr(dut, f"{side}_rx_clk")
        data, control = getattr(dut, f"{side}_rx_data"), getattr(dut, f"{side}_rx_ctl")
        sources[side] = RgmiiSource(data, control, clock)
    await Timer(1, "ns")
    Clock(dut.clock, parameters()["clock_ps"], "ps", impl="gpi").start()
    for side, period in zip(SIDES, (7998, 8002), strict=True):
        Clock(getattr(dut, f"{side}_rx_clk"), period, "ps", impl="gpi").start()
    phys = [Phy(3), Phy(1)]
    phys[1].link, phys[1].registers[IDENTIFIER] = False, 0x600D
    cocotb.start_soon(management(dut, phys))
    assert int(dut.phy_reset_n.value) != 3
    await RisingEdge(dut.ready)
    for side in SIDES:
        names = (getattr(dut, f"{side}_tx_{name}") for name in ("data", "ctl", "clk"))
        sinks[side] = RgmiiSink(*names)
        for each in (sources[side], sinks[side]):
            each.log.setLevel("WARNING")
    await Timer(1, "us")

    assert await host.read(REGISTERS["link.id"].address) == [int.from_bytes(b"SPLK")]
    sent = {side: [rng.randbytes(size) for size in (60, 61, 200, 1514, 64, 64)] for side in SIDES}
    for side in SIDES:
        for frame in sent[side]:
            sources[side].send_nowait(GmiiFrame.from_payload(frame))
    for side in SIDES:
        await sources[side].wait()
    await Timer(20, "us")
    for side, other in zip(SIDES, reversed(SIDES), strict=True):
        came = []
        while not sinks[other].empty():
            frame = sinks[other].recv_nowait()
            assert frame.check_fcs()
            came.append(bytes(frame.get_payload()))
        assert came == sent[side]
    for index in range(len(SIDES)):
        for name, value in (("rx_good", 6), ("tx_good", 6), ("rx_bytes_low", 1963), ("rx_bad", 0)):
            assert await host.read(REGISTERS[f"port.{name}"].at(index)) == [value]
    while (await polls(host, 1)) < 2:
        await Timer(50, "us")
    phy = {"present": 1, "up": 1, "speed": 2, "full_duplex": 1, "address": 3}
    for index, (said, identifier) in enumerate(((phy, 0x0141), ({"present": 1, "address": 1}, 0x600D))):
        (word,) = await host.read(REGISTERS["port.phy"].at(index))
        found = REGISTERS["port.phy"].unpack(word)
        assert found.pop("polls") >= 2 and found == {**dict.fromkeys(phy, 0), **said}
        assert await host.read(REGISTERS["port.phy_id"].at(index)) == [identifier << 16 | 0x0DD1]
        (word,) = await host.read(REGISTERS["port.status"].at(index))
        up = said.get("up", 0)
        assert REGISTERS["port.status"].unpack(word).items() >= {"link": up, "resetting": 0}.items()
        assert await host.read(REGISTERS["port.resets"].at(index)) == [up]
    # The network port was set back when its link came; it goes on, and the other one never stopped.
    for side, other in zip(SIDES, reversed(SIDES), strict=True):
        sources[side].send_nowait(GmiiFrame.from_payload(sent[side][0]))
        await Timer(5, "us")
        assert bytes(sinks[other].recv_nowait().get_payload()) == sent[side][0]
