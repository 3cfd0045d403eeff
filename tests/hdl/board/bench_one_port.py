# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Runs in the simulator, for test_top.py: a board with one port at its pins, with a PHY at the port and a host
at the UART.
"""

import random

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import RisingEdge, Timer
from cocotbext.eth import GmiiFrame, RgmiiSink, RgmiiSource
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Raw

from spigate.hdl.board.ethernet import LONGEST
from spigate.hdl.contract.vlans import IDENTIFIERS, registers
from spigate.sim.build import parameters
from tests.hdl.board.bench_top import REGISTERS, Host

VLANS = 100, 200


def frame(vlan: int, payload: bytes) -> bytes:
    return bytes(
        Ether(dst="02:00:00:00:00:02", src="02:00:00:00:00:01") / Dot1Q(vlan=vlan, type=0x88B5) / Raw(payload)
    )


@cocotb.test()
async def a_bridge_between_two_vlans(dut):
    """A frame of one VLAN leaves in the other, up to the longest; others do not leave. The host reads what was
    counted, and moves both sides to other VLANs.
    """
    rng = random.Random(1)
    host = Host(dut, parameters()["baud"])
    dut.reset_n.value = 1
    dut.mdio_drives.value = 0  # its PHY answers to nobody, so in-band status decides
    source = RgmiiSource(dut.network_rx_data, dut.network_rx_ctl, dut.network_rx_clk)
    await Timer(1, "ns")
    Clock(dut.clock, parameters()["clock_ps"], "ps", impl="gpi").start()
    Clock(dut.network_rx_clk, 7998, "ps", impl="gpi").start()
    await RisingEdge(dut.ready)
    sink = RgmiiSink(dut.network_tx_data, dut.network_tx_ctl, dut.network_tx_clk)
    for each in (source, sink):
        each.log.setLevel("WARNING")
    await Timer(1, "us")

    async def through(frames):
        for each in frames:
            source.send_nowait(GmiiFrame.from_payload(each))
        await source.wait()
        await Timer(30, "us")
        came = []
        while not sink.empty():
            got = sink.recv_nowait()
            assert got.check_fcs()
            came.append(bytes(got.get_payload()))
        return came

    other = dict(zip(VLANS, reversed(VLANS), strict=True))
    sent, wanted = [], {vlan: [] for vlan in VLANS}
    for size in (42, 43, 300, LONGEST - 14):
        for vlan in VLANS:
            payload = rng.randbytes(size)
            sent.append(frame(vlan, payload))
            wanted[other[vlan]].append(frame(other[vlan], payload))
    strangers = [frame(vlan, bytes(50)) for vlan in (2, 3, 0)] + [bytes(60), frame(100, bytes(LONGEST - 13))]
    came = await through([*strangers, *sent])
    assert {vlan: [each for each in came if Ether(each)[Dot1Q].vlan == vlan] for vlan in VLANS} == wanted

    part = registers()
    for name, value in (
        ("rx_network", 4),
        ("rx_server", 4),
        ("rx_other", 4),
        ("tx_network", 4),
        ("tx_server", 4),
    ):
        assert await host.read(part[name].address) == [value]
    port = {
        name: await host.read(REGISTERS[f"port.{name}"].at(0)) for name in ("rx_good", "rx_long", "tx_good")
    }
    assert port == {"rx_good": [12], "rx_long": [1], "tx_good": [8]}
    refused = REGISTERS["link.refused"].address
    assert await host.read(refused) == [0]
    # There is no second port, and no two sides in one VLAN.
    assert await host.read(REGISTERS["port.rx_good"].at(1)) == [0]
    await host.write(part[IDENTIFIERS].address, 7 << 16 | 7)
    assert await host.read(part[IDENTIFIERS].address) == [200 << 16 | 100]
    assert await host.read(refused) == [2]

    await host.write(part[IDENTIFIERS].address, 8 << 16 | 7)
    assert await host.read(part[IDENTIFIERS].address) == [8 << 16 | 7]
    payload = rng.randbytes(100)
    assert await through([frame(100, payload), frame(7, payload)]) == [frame(8, payload)]
