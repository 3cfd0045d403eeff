# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Runs in the simulator, for tests/sim/test_guard.py."""

from dataclasses import replace
from ipaddress import ip_network

import cocotb

from spigate.firmware_py.ipsec.sa import Selectors
from spigate.firmware_py.tables.interface import Action, CamEntry, CamKey, Route, Rule, Source
from spigate.firmware_py.tables.punt import unpack_punt
from spigate.hdl.contract.enums import Direction, Port, Reason
from spigate.sim.bench_traffic import ETHERNET, OURS, PROTECTED, Tunnels, behind, clear
from tests.sim.bench_robustness import Watched

OUTSIDE = 2
"""Index of a route to the network port."""
FLOW = 77


async def wrong_tables(dut):
    """A gateway whose tables send what an SA decrypts, and what a rule bypasses without saying that it may
    leave, to the network port.
    """
    watched = await Watched(dut).start()
    driver, tunnels = watched.driver, watched.inbound[0]
    await driver.write_route(OUTSIDE, Route(Port.NETWORK))
    await driver.add_cam(CamEntry(CamKey(OURS, tunnels.sas[0].spi), 0, 0, OUTSIDE))
    rule = Rule(
        Selectors(PROTECTED, ip_network(behind(FLOW))), frozenset({Port.SERVER}), Action.BYPASS, route=OUTSIDE
    )
    await driver.add_rule(rule)
    for dfe in range(driver.capabilities.dfes):
        await driver.write_source(dfe, 0, Source(PROTECTED, frozenset({Port.SERVER})))
    return watched, rule


@cocotb.test(timeout_time=100, timeout_unit="ms")
async def guard(dut):
    watched, rule = await wrong_tables(dut)
    board, driver, tunnels = watched.board, watched.driver, watched.inbound[0]
    board.expect_guard()
    for number in range(5):
        await board.network.send(tunnels.frame(0, clear(100, number)))
        await board.server.send(ETHERNET + clear(100, number, FLOW))
    await watched.settled()
    assert not watched.seen["network"] and not watched.seen["server"]
    assert (await driver.counters()).drops == {Reason.GUARD: 10} and board.guard_stops == 10
    events = [(event.reason, event.dropped, event.dfe, event.sa) for event in await driver.events()]
    assert sorted(events) == sorted([(Reason.GUARD, True, 0, 0)] * 5 + [(Reason.GUARD, True, 14, 0)] * 5)
    # What a rule lets out, and what the control element sends, leaves.
    await driver.replace_rule(rule, replace(rule, clear=True))
    await board.server.send(ETHERNET + clear(100, 1, FLOW))
    await board.port.inject(1, Port.NETWORK, 0, ETHERNET + clear(100, 2, FLOW))
    await watched.settled()
    assert sorted(watched.seen["network"]) == sorted(ETHERNET + clear(100, number, FLOW) for number in (1, 2))
    assert board.guard_stops == 10


@cocotb.test(timeout_time=100, timeout_unit="ms")
async def guard_unexpected(dut):
    watched, _ = await wrong_tables(dut)
    await watched.board.network.send(watched.inbound[0].frame(0, clear(100, 1)))
    await watched.board.clocks(20_000)


@cocotb.test(timeout_time=200, timeout_unit="ms")
async def race(dut):
    """The place of an outbound SA is given to another one while packets that were classified for it are
    still on their way to the DFE.
    """
    watched = await Watched(dut).start()
    board, driver = watched.board, watched.driver
    index = len(watched.inbound[0].sas)
    old, new = (Tunnels("gcm128", Direction.OUTBOUND, first=first) for first in (index, index + 1))
    await old.write(driver)
    encrypted = punted = 0
    for turn in range(8):
        generation = turn + 1
        rule = replace(old._rule(0), generation=generation)
        await driver.write_sa(
            0, index, replace(old.sas[0], sequence=1000 * generation), None, generation=generation
        )
        if turn == 0:
            await driver.replace_rule(old._rule(0), rule)
        else:
            await driver.replace_rule(replace(rule, generation=generation - 1), rule)
        sent = [old.clear(300, 100 * turn + number) for number in range(12)]
        for seen in watched.seen.values():
            seen.clear()
        for packet in sent[:6]:
            await board.server.send(ETHERNET + packet)
        sending = cocotb.start_soon(_send(board, sent[6:]))
        await board.clocks(50 + 100 * turn)
        await driver.write_sa(0, index, new.sas[0], None, generation=generation + 100)
        await sending
        for _ in range(100):
            await board.clocks(500)
            if sum(map(len, watched.seen.values())) == len(sent):
                break
        out, up = watched.seen["network"], [unpack_punt(frame) for frame in watched.seen["punt"]]
        # Each packet went out under its own SA, or came up; none under the one that is in its place now.
        assert [old.opened(frame) for frame in out] + [frame[len(ETHERNET) :] for _, frame in up] == sent
        assert all(
            (header.reason, header.dfe, header.sa, header.rule) == (Reason.SA_ABSENT, 0, index, 0)
            for header, _ in up
        )
        encrypted, punted = encrypted + len(out), punted + len(up)
    assert encrypted > 10 and punted > 10


async def _send(board, packets):
    for packet in packets:
        await board.server.send(ETHERNET + packet)
