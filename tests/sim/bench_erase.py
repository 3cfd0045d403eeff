# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Runs in the simulator, for tests/sim/test_erase.py."""

import json
import random
from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path

import cocotb

from spigate.firmware_py.ipsec.packet import UDP
from spigate.firmware_py.ipsec.sa import Lifetime, SaState, Selectors
from spigate.firmware_py.tables.driver import WRITE_CLOCKS, Driver
from spigate.firmware_py.tables.interface import Action, Attention, CfeSettings, Route, Rule, Source
from spigate.hdl.contract import rdl
from spigate.hdl.contract.enums import Direction, Port
from spigate.sim import bench_traffic
from spigate.sim.bench_traffic import ETHERNET, SENDER, SUITES, Tunnels, behind, ipv4
from spigate.sim.board import Board
from spigate.sim.build import parameters
from spigate.sim.residue import state

STATUS = rdl.registers()["table_status"]
RESET_CLOCKS, BUSY_CLOCKS = 25_000, 100_000
"""docs/security.md."""
SIZES = (60, 1400, 28, 300, 90, 600, 41)


class Erased:
    """A started board; what leaves it, by port."""

    async def start(self, dut):
        self.board = Board(dut)
        await self.board.start()
        self.out = {"network": [], "server": [], "punt": []}
        for name, sink in (
            ("network", self.board.network_out),
            ("server", self.board.server_out),
            ("punt", self.board.punt),
        ):
            sink.on_arrival = lambda arrival, name=name: self.out[name].append(arrival.frame)
        await self.open()
        return self

    async def open(self):
        self.driver = await Driver.open(self.board.bus)
        self.dfes = self.driver.capabilities.dfes
        await self.driver.configure(CfeSettings(enable=(1 << self.dfes) - 1, patience=0xFFFF))

    async def wiping(self):
        return STATUS.unpack((await self.board.bus.read(STATUS.address))[0])["wiping"]

    async def wiped(self, limit):
        """Waits until nothing of what was erased is left; the clocks that it took."""
        begun = self.board.cycle
        await self.board.clocks(WRITE_CLOCKS)  # The entry is on its way to its DFE.
        while await self.wiping():
            await self.board.clocks(20)
            assert self.board.cycle - begun < limit
        return self.board.cycle - begun

    async def came(self, port, count):
        for _ in range(2000):
            if len(self.out[port]) >= count:
                return
            await self.board.clocks(100)
        counters = await self.driver.counters()
        raise AssertionError(
            f"{len(self.out[port])} of {count} frames came at the {port} port, dropped: {counters.drops}"
        )


def packet(flow, number, rng):
    """A clear packet of which all is random but headers and ports."""
    size = SIZES[number % len(SIZES)]
    return ipv4(SENDER, behind(flow), UDP, bytes(8) + rng.randbytes(size - 28), number)


@cocotb.test()
async def reset_erases(dut):
    """Audit row 8: after a reset nothing of the tables of before is valid, and a driver finds them empty."""
    erased = await Erased().start(dut)
    board, rng = erased.board, random.Random(1)
    tunnels = Tunnels("gcm128", Direction.INBOUND)
    clear = ETHERNET + ipv4(ip_address("10.9.0.1"), behind(0), UDP, bytes(40))

    async def write():
        await tunnels.write(erased.driver)
        await erased.driver.write_route(2, Route(Port.SERVER))
        await erased.driver.add_rule(
            Rule(
                Selectors(ip_network("10.9.0.0/16"), ip_network("0.0.0.0/0")),
                frozenset({Port.NETWORK}),
                Action.BYPASS,
                route=2,
            )
        )
        for dfe in range(erased.driver.capabilities.dfes):  # any of them may get what is bypassed
            await erased.driver.write_source(
                dfe, 0, Source(ip_network("10.9.0.0/16"), frozenset({Port.NETWORK}))
            )

    await write()
    await board.network.send(tunnels.frame(0, packet(0, 0, rng)))
    await board.network.send(clear)
    await erased.came("server", 2)
    for again in (False, True):
        dut.rst.value = 1
        await board.clocks(50)
        dut.rst.value = 0
        begun = board.cycle
        # They are there from the first clock on.
        sending = cocotb.start_soon(board.network.send(tunnels.frame(1, packet(0, 1, rng))))
        await erased.open()
        assert board.cycle - begun < RESET_CLOCKS
        await sending
        await board.network.send(clear)
        await erased.came("punt", 2 + 2 * again)
        assert len(erased.out["server"]) == 2
        assert await erased.driver.read_state(0, 0) == SaState() and await erased.driver.attention() == []
        cocotb.log.info(
            "erased %s clocks after the reset, wiped %s clocks later",
            board.cycle - begun,
            await erased.wiped(BUSY_CLOCKS),
        )
    await write()
    await board.network.send(tunnels.frame(2, packet(0, 2, rng)))
    await board.network.send(clear)
    await erased.came("server", 4)
    await erased.driver.check()
    board.check()


@cocotb.test()
async def limits_are_told_among_junk(dut):
    """Audit row 12: what strangers send cannot keep a lifetime from being told."""
    erased = await Erased().start(dut)
    board, driver, rng = erased.board, erased.driver, random.Random(1)
    tunnels = Tunnels("gcm128", Direction.INBOUND, count=2 * erased.dfes, dfes=erased.dfes)
    limited = tunnels.sas[1] = replace(tunnels.sas[1], soft=Lifetime(packets=3), hard=Lifetime(packets=5))
    await tunnels.write(driver)
    place = (1 % erased.dfes, 1 // erased.dfes)
    junk = ETHERNET + ipv4(ip_address("198.51.100.66"), bench_traffic.OURS, 50, bytes(40))
    for _ in range(70):
        await board.network.send(junk)
    for turn in range(7):
        assert await driver.attention() == ([] if turn < 3 else [Attention(*place, turn > 5)])
        for at in range(len(tunnels.sas)):
            await board.network.send(tunnels.frame(turn * len(tunnels.sas) + at, packet(at, turn, rng)))
        await board.clocks(4000)
    assert await driver.attention() == [Attention(*place, True)]
    await driver.stop_sa(*place)
    assert await driver.attention() == [Attention(*place, True)]
    await driver.erase_sa(*place)
    await driver.write_sa(*place, limited, None)
    assert await driver.attention() == []
    board.check()


@cocotb.test()
async def erasing_harms_nobody(dut):
    """While SAs come and go, packets of another one pass, all and in order, and what was erased is wiped in
    time.
    """
    erased = await Erased().start(dut)
    board, driver, rng = erased.board, erased.driver, random.Random(parameters()["seed"])
    lasting = [
        Tunnels(suite, direction, count=erased.dfes, dfes=erased.dfes, first=at * erased.dfes)
        for at, (suite, direction) in enumerate(
            [
                ("gcm128", Direction.INBOUND),
                ("gcm128", Direction.OUTBOUND),
                ("cbc128-sha256", Direction.INBOUND),
            ]
        )
    ]
    for tunnels in lasting:
        await tunnels.write(driver)
    for port in (board.network, board.server):
        port.pause(parameters()["pause"])
    sent, busy = {id(tunnels): [] for tunnels in lasting}, True

    async def traffic(port, group):
        number = 0
        while busy:
            for tunnels in group:
                flow = tunnels._first + number % erased.dfes
                plain = packet(flow, number, rng)
                sent[id(tunnels)].append(plain)
                await port.send(tunnels.frame(number, plain))
                while (
                    board.network.sent + board.server.sent - sum(map(len, erased.out.values()))
                    > 4 * erased.dfes
                ):
                    await board.clocks(50)
            number += 1

    tasks = [
        cocotb.start_soon(traffic(board.network, lasting[::2])),
        cocotb.start_soon(traffic(board.server, lasting[1:2])),
    ]
    longest = 0
    for turn in range(parameters()["turns"]):
        passing = Tunnels(
            list(SUITES)[turn % 4],
            Direction.INBOUND,
            count=erased.dfes,
            dfes=erased.dfes,
            first=len(lasting) * erased.dfes,
        )
        await passing.write(driver)
        await passing.erase(driver)
        clocks = await erased.wiped(BUSY_CLOCKS)
        assert clocks > 1000
        longest = max(longest, clocks)
    busy = False
    for task in tasks:
        await task
    await erased.came("server", len(sent[id(lasting[0])]) + len(sent[id(lasting[2])]))
    await erased.came("network", len(sent[id(lasting[1])]))
    cocotb.log.info("wiped within %s clocks of traffic, %s packets", longest, sum(map(len, sent.values())))
    got = {
        "server": [frame[14:] for frame in erased.out["server"]],
        "network": [lasting[1].opened(frame) for frame in erased.out["network"]],
    }
    for at, tunnels in enumerate(lasting):
        for flow in range(erased.dfes):
            due = [plain for number, plain in enumerate(sent[id(tunnels)]) if number % erased.dfes == flow]
            mine = set(due)
            assert [plain for plain in got["network" if at == 1 else "server"] if plain in mine] == due
    assert not erased.out["punt"]
    await driver.check()
    board.check()


@cocotb.test()
async def leaves_what_it_leaves(dut):
    """For Icarus: all that the gateway holds after SAs with secret keys carried secret packets and were
    erased.
    """
    secret = random.Random(parameters()["secret"])
    for suite in SUITES.values():
        suite |= {
            name: secret.randbytes(len(suite[name])) for name in ("key", "auth_key", "salt") if name in suite
        }
    erased = await Erased().start(dut)
    board, driver = erased.board, erased.driver
    tunnels = [
        Tunnels(suite, direction, count=erased.dfes, dfes=erased.dfes, first=at * erased.dfes)
        for at, (suite, direction) in enumerate(
            [
                ("gcm128", Direction.INBOUND),
                ("cbc256-sha256", Direction.OUTBOUND),
                ("cbc128-sha1", Direction.INBOUND),
                ("gcm256", Direction.OUTBOUND),
            ]
        )
    ]
    for each in tunnels:
        await each.write(driver)
    for number in range(len(SIZES)):
        for at, each in enumerate(tunnels):
            await (board.server if at % 2 else board.network).send(
                each.frame(number, packet(at * erased.dfes, number, secret))
            )
        # A DFE's queue drops what it has no room for.
        await erased.came("server", 2 * (number + 1))
        await erased.came("network", 2 * (number + 1))
    before = state(dut.gateway)
    for each in tunnels:
        await each.erase(driver)
    clocks = await erased.wiped(BUSY_CLOCKS)
    # The ports' other sides stop to hold what they sent last.
    for port in (board.network, board.server):
        await port.send(bytes(60))
    await erased.came("punt", 2)
    await board.clocks(1000)
    Path(parameters()["result"]).write_text(
        json.dumps({"before": before, "after": state(dut.gateway), "clocks": clocks})
    )
