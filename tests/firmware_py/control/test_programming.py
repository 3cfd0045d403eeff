# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""In which order entries are written and taken back."""

import asyncio
import random
from collections import Counter
from dataclasses import replace
from ipaddress import ip_network

import pytest

from spigate.firmware_py.control.programming import (
    DOWN_SECONDS,
    GENERATIONS,
    IDLE_SECONDS,
    NO_ROOM,
    SEQUENCE_MARGIN,
    Programming,
)
from spigate.firmware_py.errors import TableFull
from spigate.firmware_py.ipsec.decision import Decision, Verdict
from spigate.firmware_py.ipsec.sa import Lifetime, SaState, Selectors
from spigate.firmware_py.tables.interface import GATEWARE, Action, Route, Rule
from spigate.hdl.contract.enums import Direction, Port
from tests.firmware_py.control.network import sa

INBOUND, OUTBOUND = sa(0x1000), sa(0x1001, Direction.OUTBOUND)
SELECTORS = Selectors(ip_network("10.2.0.0/24"), ip_network("10.1.0.0/24"))
ROUTE = Route(Port.SERVER)
STATE = SaState(sequence=100, window=0b101, bytes=1000, packets=10)


class Tables:
    """Remembers what is called."""

    def __init__(self, capabilities=GATEWARE, state=STATE, stopped=False):
        self.capabilities, self.state, self.stopped = capabilities, state, stopped
        self.calls, self.sas, self.generations, self.cam = [], {}, {}, None

    def __getattr__(self, name):
        async def call(*arguments, generation=0):
            self.calls.append(name)
            if name == "write_sa":
                self.sas[arguments[:2]] = arguments[2]
                self.generations[arguments[:2]] = generation
            elif name == "add_cam":
                self.cam = arguments[0]
            elif name == "replace_rule":
                self.calls[-1] = f"rule: {arguments[1].action.name.lower()}"
            return {"read_state": self.state, "stop_sa": self.stopped}.get(name)

        return call


def placed(one, tables, clock=lambda: 0.0):
    """``one`` at work in DFE 0, with what points to it; the calls so far are forgotten."""
    programming = Programming(tables, clock)

    async def run():
        found = await programming.place(one, 0, [SELECTORS] if one.direction == Direction.INBOUND else None)
        if one.direction == Direction.INBOUND:
            await programming.find_by(found, ROUTE)
        else:
            rule = Rule(
                SELECTORS,
                frozenset({Port.SERVER}),
                Action.PROTECT,
                found.dfe,
                found.index,
                await programming.ways.route(ROUTE),
            )
            await programming.ways.install(Decision(Verdict.PROTECT, Port.SERVER, region=SELECTORS), rule)
        return found

    found = asyncio.run(run())
    tables.calls.clear()
    return programming, found


POINTER = {INBOUND: "remove_cam", OUTBOUND: "rule: punt"}
CHANGES = {
    "remove": lambda programming, found: programming.remove(found.sa),
    "take_over": lambda programming, found: programming.take_over(found, "why"),
    "move": lambda programming, found: programming.move(found, ROUTE if found.route else None),
    "rename": lambda programming, found: programming.rename(found.sa, replace(found.sa, reqid=7), "why"),
}


@pytest.mark.parametrize("one", [INBOUND, OUTBOUND], ids=["inbound", "outbound"])
@pytest.mark.parametrize("change", CHANGES)
def test_an_sa_stands_still_before_it_is_read_and_is_read_before_it_is_erased(one, change):
    tables = Tables()
    programming, found = placed(one, tables)
    asyncio.run(CHANGES[change](programming, found))
    order = [
        *[POINTER[one]] * (change == "remove"),
        "stop_sa",
        *["read_state"] * (change != "remove"),
        "erase_sa",
    ]
    assert tables.calls[: len(order)] == order
    assert tables.calls.count("stop_sa") == tables.calls.count("erase_sa") == 1
    nowhere = ["write_route", "add_cam"] if one is INBOUND else ["rule: protect"]
    rest = {
        "remove": [],
        "take_over": nowhere,
        "move": ["write_sa", "add_cam"] if one is INBOUND else ["write_sa", "rule: protect"],
        "rename": [*nowhere, *["remove_cam"] * (one is INBOUND)],
    }[change]
    assert tables.calls[len(order) :] == rest


@pytest.mark.parametrize("one", [INBOUND, OUTBOUND], ids=["inbound", "outbound"])
def test_what_is_done_in_software_is_not_waited_for(one):
    tables = Tables()
    programming, found = placed(one, tables)
    asyncio.run(programming.take_over(found, "why"))
    tables.calls.clear()
    asyncio.run(programming.take_over(found, "why"))
    assert tables.calls == []
    asyncio.run(programming.remove(one))
    assert tables.calls == ["remove_cam"] * (one is INBOUND), "it has no place"
    assert not programming.placed and not programming.refusals


@pytest.mark.parametrize("one", [INBOUND, OUTBOUND], ids=["inbound", "outbound"])
def test_what_is_done_in_software_takes_no_place_of_a_dfe(one):
    """What pointed to it points to a place that no SA ever has, so that its packets come up as those of an
    SA.
    """
    tables = Tables(replace(GATEWARE, dfes=1, sa_entries=3))
    programming, found = placed(one, tables)
    asyncio.run(programming.take_over(found, "why"))
    others = [replace(one, spi=spi) for spi in (0x2000, 0x2001, 0x2002)]
    at = [
        asyncio.run(programming.place(other, 0, [SELECTORS] if one is INBOUND else None)) for other in others
    ]
    assert [each.soft is None for each in at] == [True, True, False]
    assert programming.refusals == {one: "why", others[2]: NO_ROOM}
    nowhere = (found.dfe, found.index)
    assert (
        nowhere == (at[2].dfe, at[2].index)
        and nowhere not in tables.sas
        and nowhere not in [(each.dfe, each.index) for each in at[:2]]
    )
    if one is INBOUND:
        assert (tables.cam.dfe, tables.cam.sa) == nowhere


def test_the_least_recently_used_sa_that_is_idle_gives_its_place_to_one_that_is_not():
    now, packets = [0.0], Counter()

    class Places(Tables):
        async def read_state(self, dfe, index):
            return SaState(packets=packets[index])

    programming = Programming(Places(replace(GATEWARE, dfes=1, sa_entries=3), stopped=True), lambda: now[0])
    first, second, third = (asyncio.run(programming.place(sa(0x2000 + n), 0, [SELECTORS])) for n in range(3))
    assert third.soft and third.wanting and (first.index, second.index) == (0, 1)

    def comes_in(seconds):
        now[0] = seconds
        asyncio.run(programming.give_back(third, 0, ROUTE))
        return third.soft is None

    assert not comes_in(IDLE_SECONDS - 1), "nobody is idle"
    packets.update({0: 1, 1: 1})
    assert not comes_in(IDLE_SECONDS), "that there were packets is seen now"
    packets[0] += 1
    assert not comes_in(2 * IDLE_SECONDS - 1)
    assert comes_in(2 * IDLE_SECONDS)
    assert not first.soft and second.soft and second.wanting and programming.refusals == {second.sa: NO_ROOM}


@pytest.mark.parametrize("stopped", [True, False])
@pytest.mark.parametrize("one", [INBOUND, OUTBOUND], ids=["inbound", "outbound"])
def test_where_an_sa_goes_on(one, stopped):
    """Exactly; an outbound one behind all numbers that may have been used, where its DFE may still have
    packets of it.
    """
    limited = replace(one, soft=Lifetime(bytes=900, packets=12), hard=Lifetime(bytes=4000, packets=50))
    tables = Tables(stopped=stopped)
    programming, found = placed(limited, tables)
    sequence, window = (100, 0b101) if one is INBOUND else (100 + SEQUENCE_MARGIN * (not stopped), 0)

    asyncio.run(programming.move(found, ROUTE if one is INBOUND else None))
    moved = tables.sas[found.dfe, found.index]
    assert found.dfe == 1 and (moved.sequence, moved.window) == (sequence, window)
    assert (moved.soft, moved.hard) == (Lifetime(bytes=1, packets=2), Lifetime(bytes=3000, packets=40))

    tables.state = replace(STATE, sequence=moved.sequence + 1, bytes=500, packets=5)
    asyncio.run(programming.take_over(found, "why"))
    soft = found.soft.state
    assert (soft.bytes, soft.packets) == (1500, 15)
    asyncio.run(programming.give_back(found, 1400, ROUTE if one is INBOUND else None))
    given = tables.sas[found.dfe, found.index]
    assert (given.sequence, given.window, given.mtu) == (soft.sequence, soft.window, 1400)
    assert given.hard == Lifetime(bytes=2500, packets=35) and not programming.refusals
    tables.state = replace(STATE, bytes=100, packets=1)
    state = asyncio.run(programming.state(found))
    assert (state.bytes, state.packets) == (1600, 16)


@pytest.mark.parametrize("one", [INBOUND, OUTBOUND], ids=["inbound", "outbound"])
def test_each_new_sa_in_a_place_has_another_generation(one):
    """Audit `race`: what was classified for the SA before must not be done with the new one."""
    tables = Tables(replace(GATEWARE, sa_entries=2, dfes=1))
    programming, seen = Programming(tables), []
    for spi in range(0x2000, 0x2000 + GENERATIONS):
        found = asyncio.run(programming.place(replace(one, spi=spi), 0))
        assert (found.dfe, found.index, found.generation) == (0, 0, tables.generations[0, 0])
        seen.append(found.generation)
        asyncio.run(programming.remove(found.sa))
    assert len(set(seen)) == GENERATIONS and set(seen) <= set(range(GENERATIONS))


def test_what_points_to_an_sa_says_its_generation_also_where_it_moved():
    tables, now = Tables(), [0.0]
    programming, found = placed(INBOUND, tables, lambda: now[0])
    for _ in range(3):
        now[0] += DOWN_SECONDS
        asyncio.run(programming.move(found, ROUTE))
        assert (tables.cam.dfe, tables.cam.sa, tables.cam.generation) == (
            found.dfe,
            found.index,
            found.generation,
        )
        assert tables.generations[found.dfe, found.index] == found.generation
    asyncio.run(programming.take_over(found, "why"))
    assert (tables.cam.dfe, tables.cam.sa) not in tables.generations, "a place that is never filled"
    asyncio.run(programming.give_back(found, 0, ROUTE))
    assert tables.cam.generation == tables.generations[found.dfe, found.index] == found.generation
    programming, found = placed(OUTBOUND, tables)
    asyncio.run(programming.move(found, None))
    ((_, rule),) = programming.ways.pointing_to(found.dfe, found.index)
    assert rule.generation == found.generation


def test_numbers_end():
    tables = Tables(state=SaState(sequence=(1 << 32) - 5))
    programming, found = placed(OUTBOUND, tables)
    asyncio.run(programming.move(found, None))
    assert tables.sas[found.dfe, found.index].sequence == (1 << 32) - 1, "not from the beginning"


def test_only_the_sa_itself_is_removed():
    programming, found = placed(INBOUND, Tables())
    asyncio.run(programming.remove(replace(INBOUND, reqid=9)))
    assert programming.placed == {INBOUND.identity: found}


def test_places_are_given_back():
    tables, now = Tables(replace(GATEWARE, sa_entries=2, routes=2)), [0.0]
    for one in (INBOUND, OUTBOUND):
        programming, found = placed(one, tables, lambda: now[0])
        for _ in range(5):
            now[0] += DOWN_SECONDS
            asyncio.run(programming.move(found, ROUTE if one is INBOUND else None))
            assert not found.soft
        with pytest.raises(TableFull, match="The routes are full: 1 entries"):
            asyncio.run(programming.ways.route(Route(Port.NETWORK)))
        asyncio.run(programming.remove(one))
        asyncio.run(programming.ways.forget_rules())
        now[0] += DOWN_SECONDS
        again = [asyncio.run(programming.place(replace(one, spi=0x3000 + n), 0)) for n in range(4)]
        assert [bool(each.soft) for each in again] == [False, False, False, True], "one place is never filled"
        assert asyncio.run(programming.ways.route(Route(Port.NETWORK))) == 0


def spread(shares, offers, *, sas=12, dfes=3, broken=()):
    """How many inbound and outbound SAs each DFE gets that are offered to ``offers`` in turn. DFEs in
    ``broken`` lost an SA before.
    """
    programming = Programming(Tables(replace(GATEWARE, dfes=dfes)))
    programming.shares = shares

    async def run():
        for dfe in broken:
            await programming.move(await programming.place(sa(0x100 + dfe), dfe, [SELECTORS]), ROUTE)
        at = 0
        for number in range(sas):
            for direction in (Direction.INBOUND, Direction.OUTBOUND):
                await programming.place(
                    sa(0x1000 + 2 * number + direction, direction), offers[at % len(offers)], [SELECTORS]
                )
                at += 1

    asyncio.run(run())
    return [
        [
            sum(
                placed.dfe == dfe and placed.sa.direction == direction and placed.sa.spi >= 0x1000
                for placed in programming.placed.values()
            )
            for dfe in range(dfes)
        ]
        for direction in (Direction.INBOUND, Direction.OUTBOUND)
    ]


@pytest.mark.parametrize("offers", [[1], [0, 1], [2, 0, 1], [0, 0, 1]])
def test_sas_take_turns_whatever_turns_packets_take(offers):
    """The packets of one new SA may take as many turns in the balancer as there are DFEs."""
    assert spread((1,) * 8, offers) == [[4] * 3] * 2
    assert spread((1, 2, 3), offers) == [[2, 4, 6]] * 2


def test_without_shares_an_sa_goes_where_it_is_offered():
    assert spread(None, [1]) == [[0, 12, 0]] * 2


def test_a_dfe_that_broke_down_gets_none_until_it_is_offered_again():
    assert [found[0] for found in spread((1,) * 8, [1, 2], broken=[0])] == [0, 0]
    assert all(abs(found[0] - 4) <= 1 for found in spread((1,) * 8, [1, 2, 0], broken=[0]))


@pytest.mark.parametrize("dfes", [1, 2])
def test_an_sa_does_not_go_back_to_a_dfe_that_is_down(dfes):
    """Wherever the others are full: each time it would come out again, an outbound one with 2^20 numbers
    less.
    """
    now, tables = [0.0], Tables(replace(GATEWARE, dfes=dfes, sa_entries=2))
    programming, found = placed(OUTBOUND, tables, lambda: now[0])
    for n in range(2 * dfes):
        asyncio.run(programming.place(sa(0x2000 + 2 * n, Direction.OUTBOUND), dfes - 1))
    asyncio.run(programming.move(found, None))
    for _ in range(3):
        now[0] += DOWN_SECONDS / 4
        asyncio.run(programming.give_back(found, 0, None))
        assert found.soft and found.wanting and programming.refusals[OUTBOUND] == NO_ROOM
    now[0] += DOWN_SECONDS / 4
    asyncio.run(programming.give_back(found, 0, None))
    assert not found.soft and found.dfe == 0 and tables.calls.count("stop_sa") == 1


@pytest.mark.parametrize("seed", range(8))
def test_after_anything_turns_and_places_are_as_at_first(seed):
    """SAs come, go, move, are renamed, taken over, given back and pushed out, with DFEs off and the CAM
    full now and then: when all are gone, nothing is counted any more, and no place is lost."""
    draw, now, full = random.Random(seed), [0.0], [False]
    capabilities = replace(GATEWARE, dfes=3, sa_entries=3)

    class Narrow(Tables):
        async def add_cam(self, entry):
            if full[0] and entry.key not in known:
                raise TableFull("The CAM is full")
            known.add(entry.key)

        async def remove_cam(self, key):
            known.discard(key)

    async def fresh(programming):
        found = [
            await programming.place(sa(0x9000 + n, direction), n % 3, [SELECTORS])
            for n in range(4)
            for direction in (Direction.INBOUND, Direction.OUTBOUND)
        ]
        rest = [await programming.place(sa(0xA000 + n), 0, [SELECTORS]) for n in range(2)]
        return [each.dfe for each in found], [bool(each.soft) for each in rest]

    async def anything(programming):
        for number in range(300):
            now[0] += draw.choice((0, 0, 1, DOWN_SECONDS))
            full[0] = draw.random() < 0.3
            programming.shares = draw.choice((None, (1,) * 8, (1, 2, 3)))
            programming.enable(draw.choice((7, 7, 7, 3, 4, 0)))
            there = draw.choice([None, *programming.placed.values()])
            route = ROUTE if there and there.sa.direction == Direction.INBOUND else None
            match draw.choice(("place", "place", "over", "back", "move", "remove", "rename", "permit")):
                case "place":
                    one = sa(0x1000 + number, draw.choice(list(Direction)))
                    made = await programming.place(
                        one, draw.randrange(3), [SELECTORS], why_not=draw.choice((None, None, "why"))
                    )
                    if one.direction == Direction.INBOUND:
                        await programming.find_by(made, None if made.soft else ROUTE)
                case "over" if there:
                    await programming.take_over(there, "why", wanting=draw.random() < 0.5)
                case "back" if there and there.soft:
                    await programming.give_back(there, 0, route)
                case "move" if there and not there.soft:
                    await programming.move(there, route)
                case "remove" if there:
                    await programming.remove(there.sa)
                case "rename" if there:
                    await programming.rename(there.sa, replace(there.sa, spi=0x5000 + number), "why")
                case "permit" if there:
                    await programming.permit(
                        there, draw.choice(([SELECTORS], None)), draw.choice((None, "why"))
                    )
            places = [(each.dfe, each.index) for each in programming.placed.values() if not each.soft]
            assert len(set(places)) == len(places) and programming._held == Counter(
                (each.dfe, each.sa.direction) for each in programming.placed.values() if not each.soft
            )
        for each in list(programming.placed.values()):
            await programming.remove(each.sa)

    known = set()
    used, unused = (Programming(Narrow(capabilities, stopped=True), lambda: now[0]) for _ in range(2))
    asyncio.run(anything(used))
    assert not used.placed and not used.refusals and not used.unfound and not known
    now[0] += DOWN_SECONDS
    used.enable(7)
    used.shares = unused.shares = (1, 2, 3)
    full[0] = False
    assert asyncio.run(fresh(used)) == asyncio.run(fresh(unused))
