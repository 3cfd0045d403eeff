# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Runs in the simulator, for tests/sim/test_robustness.py: a DFE whose engine breaks down while packets
run.
"""

from collections import Counter
from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network

import cocotb

from spigate.firmware_py.control.element import ControlElement, Settings
from spigate.firmware_py.control.topology import Interface, Neighbour, Topology
from spigate.firmware_py.ipsec.policy import Policy, PolicyAction, PolicyDirection, Template
from spigate.firmware_py.ipsec.sa import Selectors
from spigate.firmware_py.tables.driver import Driver
from spigate.firmware_py.tables.interface import UNLIMITED, CfeSettings
from spigate.hdl.contract.enums import Direction, Mode, Port, Reason
from spigate.hdl.dfe.fill import QUEUE_PACKETS
from spigate.hdl.dfe.job import BUFFERS
from spigate.sim.bench_traffic import (
    ETHERNET,
    FIRST_SPI,
    IP_BYTES,
    OURS,
    PEER,
    PROTECTED,
    Tunnels,
    behind,
    unencrypted,
)
from spigate.sim.board import Board
from spigate.sim.stand_in import BREAKS

FLOWS, ROUNDS = 3, 100
PATIENCE = 300
BETWEEN = 60
"""Clocks from frame to frame: three DFEs have time, two as well."""
MAC = bytes.fromhex("0200000000aa")


def topology():
    network = Interface("network", Port.NETWORK, ETHERNET[:6], (ip_interface(f"{OURS}/24"),))
    server = Interface("server", Port.SERVER, bytes.fromhex("020000000003"), (ip_interface("10.2.0.1/16"),))
    return Topology([network, server], [Neighbour(behind(flow), Port.SERVER, MAC) for flow in range(FLOWS)])


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def engine_breaks(dut):
    board = Board(dut)
    await board.start()
    driver = await Driver.open(board.bus)
    tunnels = Tunnels("gcm128", Direction.INBOUND, count=FLOWS, dfes=FLOWS, encrypted=False)
    # Each to one host, so that its packets go straight there: those that go round may come in another order.
    sas = [replace(sa, reqid=flow + 1) for flow, sa in enumerate(tunnels.sas)]
    breaking = replace(sas[0], spi=FIRST_SPI + FLOWS, salt=BREAKS)
    policies = [
        Policy(
            selectors=Selectors(PROTECTED, ip_network(behind(flow))),
            direction=PolicyDirection.FORWARD,
            action=PolicyAction.PROTECT,
            templates=(Template(source=PEER, destination=OURS, mode=Mode.TUNNEL, reqid=flow + 1),),
        )
        for flow in range(FLOWS)
    ]
    control = ControlElement(
        tables=driver,
        port=board.port,
        topology=topology(),
        sas=[*sas, breaking],
        policies=policies,
        settings=Settings(cfe=CfeSettings(patience=PATIENCE, rates=UNLIMITED)),
    )
    await control.start()
    answering = cocotb.start_soon(control.run())
    came = []
    board.server_out.on_arrival = came.append

    # Cold tables: the first packet of each SA makes the control element place it. Then one of them dies.
    sent = [tunnels.clear(64, number) for number in range(FLOWS * ROUNDS)]
    for number in range(FLOWS):
        await board.network.send(tunnels.frame(number, sent[number]))
        await board.clocks(3000)
    await board.network.send(ETHERNET + unencrypted(breaking.spi, 1, tunnels.clear(64, 0)))
    await board.clocks(3000)
    dead = control.placed(breaking).dfe
    moved = [at for at, sa in enumerate(sas) if control.placed(sa).dfe == dead]
    assert len(came) == FLOWS and len(moved) == 1
    for number in range(FLOWS, len(sent)):
        await board.network.send(tunnels.frame(number, sent[number]))
        await board.clocks(BETWEEN)
    await board.clocks(50_000)
    answering.cancel()
    board.check()

    # The others lose nothing, in their order; the one whose DFE died loses what was in it or before it, and
    # goes on elsewhere. What came up until it did may be overtaken by what comes straight there.
    arrived = {
        flow: [
            arrival.frame[len(ETHERNET) + IP_BYTES :]
            for arrival in came
            if ip_address(arrival.frame[len(ETHERNET) + 16 : len(ETHERNET) + IP_BYTES]) == behind(flow)
        ]
        for flow in range(FLOWS)
    }
    expected = {flow: [packet[IP_BYTES:] for packet in sent[flow::FLOWS]] for flow in range(FLOWS)}
    counters = await driver.counters()
    inside = (
        counters.dfes[dead]["packets_in"] - counters.dfes[dead]["packets_out"] - counters.dfes[dead]["punts"]
    )
    dropped = Counter(counters.drops)
    for flow in set(range(FLOWS)) - set(moved):
        assert arrived[flow] == expected[flow]
    flow = moved[0]
    assert control.placed(sas[flow]).dfe != dead and not await driver.healthy() >> dead & 1
    order = [expected[flow].index(packet) for packet in arrived[flow]]
    overtaken = [number for at, number in enumerate(order) if number < max(order[: at + 1])]
    assert (
        len(set(order)) == len(order)
        and overtaken == sorted(overtaken)
        and len(overtaken) <= control.punted[Reason.DFE_DOWN]
    )
    assert arrived[flow][-ROUNDS // 2 :] == expected[flow][-ROUNDS // 2 :]
    assert control.punted[Reason.DFE_DOWN]
    assert 0 < inside <= BUFFERS + 1 + QUEUE_PACKETS
    assert dropped.total() == dropped[Reason.QUEUE_FULL], "nothing was dropped for another reason"
    # One packet more than arrived and was dropped is inside: the one that broke the engine.
    assert len(expected[flow]) + 1 == len(arrived[flow]) + dropped[Reason.QUEUE_FULL] + inside
