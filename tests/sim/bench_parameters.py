# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Runs in the simulator, for tests/sim/test_parameters.py: every table of a gateway is filled to what its
capability registers say, and everything is looked up by a frame.
"""

from ipaddress import ip_address, ip_network

import cocotb

from spigate.firmware_py.errors import InputError, TableFull
from spigate.firmware_py.ipsec.packet import ETHERTYPE_IPV4, UDP, Ethernet
from spigate.firmware_py.ipsec.sa import Sa, Selectors
from spigate.firmware_py.tables.interface import Action, CamEntry, CamKey, Route, Rule, Source
from spigate.firmware_py.tables.punt import unpack_punt
from spigate.hdl.contract import rdl
from spigate.hdl.contract.enums import Direction, Mode, Port, Reason, Table
from spigate.sim.bench_traffic import ETHERNET, FIRST_SPI, OURS, PEER, SUITES, clear, ipv4, unencrypted
from spigate.sim.build import parameters
from tests.sim.bench_robustness import Watched

REGISTERS = rdl.registers()
PACE = 60
"""Clocks between frames: a DFE around a stand-in engine keeps up, so nothing is dropped for want of room."""
CLEAR = ip_network("10.0.0.0/8")
FORBIDDEN = ip_address("10.200.0.1")


def sequence(dfe: int, index: int) -> int:
    """The last number that SA ``index`` of DFE ``dfe`` has used: another one for each."""
    return 1000 + 16 * index + dfe


def network_of(source: int):
    """The prefix of an entry of the clear sources."""
    return ip_network(f"10.{source >> 8}.{source & 255}.0/24")


class Tables:
    """What is written, and the frames that look it up."""

    def __init__(self, watched):
        self.watched, self.driver = watched, watched.driver
        self.has = watched.driver.capabilities

    def place(self, number: int) -> tuple[int, int]:
        """DFE and SA of CAM entry ``number``."""
        return number % self.has.dfes, number // self.has.dfes % self.has.sa_entries

    def route(self, number: int) -> Route:
        """Route ``number``: a server of its own."""
        return Route(Port.SERVER, bytes([2, 0, 0, 0, 1, number]), bytes([2, 0, 0, 0, 0, number]))

    def sa(self, dfe: int, index: int) -> Sa:
        """The SA there; its SPI is that of the first CAM entry which leads to it."""
        return Sa(
            direction=Direction.INBOUND,
            spi=FIRST_SPI + index * self.has.dfes + dfe,
            source=PEER,
            destination=OURS,
            mode=Mode.TUNNEL,
            replay_window=64,
            sequence=sequence(dfe, index),
            **SUITES["gcm128"],
        )

    def rule(self, number: int) -> Rule:
        """Rule ``number``: a network behind the gateway of its own."""
        selectors = Selectors(CLEAR, ip_network(f"172.16.{number}.0/24"))
        dfe, _ = self.place(number)
        return Rule(
            selectors, frozenset({Port.SERVER}), Action.BYPASS, dfe=dfe, route=number % self.has.routes
        )

    async def fill(self) -> None:
        has, driver = self.has, self.driver
        for number in range(has.routes):
            await driver.write_route(number, self.route(number))
        for dfe in range(has.dfes):
            for index in range(has.sa_entries):
                await driver.write_sa(dfe, index, self.sa(dfe, index), None)
            for number in range(has.sources):
                await driver.write_source(dfe, number, Source(network_of(number), frozenset({Port.SERVER})))
        for number in range(has.rules):
            await driver.add_rule(self.rule(number))
        for number in range(has.cam_entries):
            await driver.add_cam(self.cam(number))
        await driver.check()

    def cam(self, number: int) -> CamEntry:
        """CAM entry ``number``."""
        return CamEntry(CamKey(OURS, FIRST_SPI + number), *self.place(number), number % self.has.routes)

    def leaves(self, route: int, packet: bytes) -> bytes:
        """The frame with ``packet`` that leaves by a route."""
        hop = self.route(route)
        return Ethernet(hop.destination_mac, hop.source_mac, ETHERTYPE_IPV4).pack() + packet


async def refused(call, kind) -> bool:
    """Whether ``call`` is refused with an error of that kind."""
    try:
        await call
    except kind:
        return True
    return False


async def errors_of(driver, bus, table: Table, index: int) -> set[str]:
    """What the gateway itself says to an erasure of that entry, which it forgets then."""
    command = REGISTERS["table.command"].pack({"table": table, "erase": 1})
    await bus.write(REGISTERS["table.index"].address, [index, command])
    register = REGISTERS["errors"]
    (word,) = await bus.read(register.address)
    await bus.write(register.address, [word])
    return {name for name, value in register.unpack(word).items() if value}


@cocotb.test(timeout_time=2, timeout_unit="sec")
async def fills_every_table(dut):
    watched = await Watched(dut).start(suites=())
    tables, board = Tables(watched), watched.board
    driver, has = tables.driver, tables.has
    told = {name: getattr(has, name) for name in parameters()["told"]}
    assert told == parameters()["told"]
    await tables.fill()

    # Nothing fits any more, and driver and gateware know the same last index.
    assert await refused(driver.add_cam(tables.cam(has.cam_entries)), TableFull)
    assert await refused(driver.add_rule(tables.rule(0)), TableFull)
    assert await refused(driver.write_route(has.routes, tables.route(0)), InputError)
    assert await refused(driver.write_sa(0, has.sa_entries, tables.sa(0, 0), None), InputError)
    assert await refused(driver.write_sa(has.dfes, 0, tables.sa(0, 0), None), InputError)
    anywhere = Source(CLEAR, frozenset({Port.SERVER}))
    assert await refused(driver.write_source(0, has.sources, anywhere), InputError)
    sizes = {
        Table.CAM: has.cam_ways * has.cam_rows,
        Table.RULE: has.rules,
        Table.ROUTE: has.routes,
        Table.SA: has.sa_entries,
        Table.SOURCE: has.sources,
    }
    for table, size in sizes.items():
        assert await errors_of(driver, board.bus, table, size) == {"index"}, table

    places = [(dfe, index) for dfe in range(has.dfes) for index in range(has.sa_entries)]
    for dfe, index in places:
        state = await driver.read_state(dfe, index)
        assert (state.sequence, state.packets) == (sequence(dfe, index), 0), (dfe, index)

    # Every CAM entry leads to its SA and route. Where it is not the SA's first one, the SPI is another one's.
    out, punted = [], []
    for number in range(has.cam_entries):
        dfe, index = tables.place(number)
        packet = clear(60, number)
        frame = ETHERNET + unencrypted(FIRST_SPI + number, sequence(dfe, index) + 1, packet)
        await board.network.send(frame)
        await board.clocks(PACE)
        if number < len(places):
            out.append(tables.leaves(number % has.routes, packet))
        else:
            punted.append((Reason.SA_ABSENT, dfe, index, frame))
    unknown = ETHERNET + unencrypted(FIRST_SPI + has.cam_entries, 1, clear(60, 0))
    await board.network.send(unknown)
    await watched.settled()
    found = [unpack_punt(frame) for frame in watched.seen["punt"]]
    assert [(head.reason, frame) for head, frame in found if head.reason == Reason.UNKNOWN_SPI] == [
        (Reason.UNKNOWN_SPI, unknown)
    ]
    absent = [(head.reason, head.dfe, head.sa, frame) for head, frame in found]
    assert sorted(each for each in absent if each[0] != Reason.UNKNOWN_SPI) == sorted(punted)
    assert sorted(watched.seen["server"]) == sorted(out)
    for number in range(min(len(places), has.cam_entries)):
        state = await driver.read_state(*tables.place(number))
        assert (state.sequence, state.packets) == (sequence(*tables.place(number)) + 1, 1), number

    # Every rule is found, and every clear source by each DFE.
    out.clear()
    watched.seen["server"].clear()
    lookups = [(rule, rule % has.sources) for rule in range(has.rules)]
    for dfe in range(has.dfes):
        rules = range(dfe, has.rules, has.dfes)
        lookups += [(rules[source % len(rules)], source) for source in range(has.sources)]
    for number, (rule, source) in enumerate(lookups):
        packet = ipv4(network_of(source)[9], ip_address(f"172.16.{rule}.7"), UDP, bytes(28), number)
        await board.server.send(ETHERNET + packet)
        await board.clocks(PACE)
        out.append(tables.leaves(rule % has.routes, packet))
    before = await watched.drops()
    for dfe in range(has.dfes):
        await board.server.send(
            ETHERNET + ipv4(FORBIDDEN, ip_address(f"172.16.{dfe}.7"), UDP, bytes(28), dfe)
        )
    while await watched.drops() < before + has.dfes:
        await board.clocks(500)
    await board.clocks(2000)
    assert sorted(watched.seen["server"]) == sorted(out)
    assert (await driver.counters()).drops == {Reason.POLICY: has.dfes}
    board.check()
