# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

import random

import pytest

from spigate.hdl.board.mdio import POLL, MdioPoller, MdioReader, Register, Resolve
from tests.hdl.board.phy import (
    ADVERTISED,
    CONTROL,
    GIGABIT,
    GIGABIT_CONTROL,
    GIGABIT_STATUS,
    LINK,
    PARTNER,
    STATUS,
    ManagementBus,
    Phy,
)
from tests.hdl.streams import simulate

pytestmark = pytest.mark.slow

CLOCK_HZ = 25e6
MARVELL = 0x0141_0DD1


@pytest.mark.parametrize("delays", [(0, 0), (300, 300), (0, 300)])
@pytest.mark.parametrize("clock_hz", [25e6, 62.5e6, 100e6, 133e6])
def test_reads_a_register_whatever_a_phy_may_delay(clock_hz, delays):
    reader = MdioReader(clock_hz=clock_hz)
    values = {0: 0x0000, 1: 0xFFFF, 10: 0x8001, 21: 0x5A3C, 31: 0xA5C3}
    phy = Phy(0b10110, {**values, STATUS: 0xFFFF & ~LINK})
    bus = ManagementBus(reader, [phy, Phy(0b01001)], clock_hz=clock_hz, delays=delays)

    async def read(ctx):
        for address, there, asked in ((0b10110, True, values), (0b00110, False, [0])):
            for register in asked:
                value = values[register]
                ctx.set(reader.address, address)
                ctx.set(reader.register, register)
                ctx.set(reader.start, 1)
                await ctx.tick()
                ctx.set(reader.start, 0)
                answered, got = await ctx.tick().sample(reader.answered, reader.value).until(reader.done)
                assert (bool(answered), got) == (there, value if there else 0xFFFF)
        assert phy.reads == list(values)

    bus.run(read)


def poller(*phys, **given):
    """A poller, its bus, and what runs polls."""
    addresses = given.pop("addresses", (None,))
    block = MdioPoller(clock_hz=CLOCK_HZ, addresses=addresses, poll_seconds=1e-6)
    return block, ManagementBus(block, phys, clock_hz=CLOCK_HZ, **given)


async def polled(ctx, block, times: int = 1, at: int = 0) -> dict:
    """The status of a PHY when it was polled so many times more."""
    for _ in range(times):
        before = ctx.get(block.polls[at])
        await ctx.tick().until(block.polls[at] != before)
        await ctx.tick()
    return fields(ctx.get(block.status[at]))


def fields(status) -> dict:
    return {
        name: int(getattr(status, name))
        for name in ("present", "up", "speed", "full_duplex", "address", "identifier")
    }


def up(address: int, speed: int = 2, full_duplex: int = 1) -> dict:
    return {
        "present": 1,
        "up": 1,
        "speed": speed,
        "full_duplex": full_duplex,
        "address": address,
        "identifier": MARVELL,
    }


def down(address: int) -> dict:
    return up(address, 0, 0) | {"up": 0}


def nothing(address: int) -> dict:
    return dict.fromkeys(up(0), 0) | {"address": address}


def test_a_phy_is_found_lost_and_found_again():
    """It comes to another address: as one whose straps were read anew."""
    phy = Phy(2)
    block, bus = poller(phy)

    async def run(ctx):
        for _ in range(3):
            assert not (await polled(ctx, block))["present"]
        assert await polled(ctx, block) == up(2)
        assert phy.reads[: len(POLL)] == list(POLL)
        phy.there = False
        assert await polled(ctx, block) == up(2)
        assert await polled(ctx, block) == nothing(2)
        phy.address, phy.there = 4, True
        await polled(ctx, block, 3)
        assert await polled(ctx, block) == up(4)

    bus.run(run)


def test_two_phys_on_a_bus():
    """Each has a speed and a link of its own; the third is at an address that nobody asks."""
    slow = {**GIGABIT, GIGABIT_STATUS: 0, PARTNER: 0x0081}
    phys = {1: Phy(1, slow), 0: Phy(0), 5: Phy(5)}
    block, bus = poller(*phys.values(), addresses=(1, 0))

    async def run(ctx):
        await polled(ctx, block, 1, at=1)
        assert await polled(ctx, block, 1, at=1) == up(0)
        assert fields(ctx.get(block.status[0])) == up(1, 1, 0)
        phys[1].link = False
        await polled(ctx, block, 2, at=1)
        assert fields(ctx.get(block.status[0])) == down(1)
        assert fields(ctx.get(block.status[1])) == up(0)
        phys[0].there = False
        await polled(ctx, block, 2, at=1)
        assert fields(ctx.get(block.status[0])) == down(1)
        assert fields(ctx.get(block.status[1])) == nothing(0)
        assert not phys[5].reads

    bus.run(run)


def test_a_link_that_flaps():
    """Its bit is 0 until it was read, and what is told is what is true at the second reading."""
    phy = Phy(0)
    block, bus = poller(phy, addresses=(0,))

    async def run(ctx):
        assert await polled(ctx, block, 2) == up(0)
        for _ in range(3):
            phy.link = False
            assert await polled(ctx, block) == up(0)
            assert await polled(ctx, block) == down(0)
            phy.link = True
            assert await polled(ctx, block) == down(0)
            assert await polled(ctx, block) == up(0)
        for _ in range(3):  # shorter than the time between polls
            phy.link = False
            phy.link = True
            assert await polled(ctx, block) == up(0)

    bus.run(run)


@pytest.mark.parametrize(
    ("register", "wrong"),
    [
        (Register.STATUS, LINK),
        (Register.STATUS, 0xFFFF),
        (Register.IDENTIFIER_LOW, 1),
        (Register.PARTNER, 0xFFFF),
    ],
)
def test_a_word_that_was_read_wrong_changes_nothing(register, wrong):
    phy = Phy(0)
    block, bus = poller(phy, addresses=(0,))

    async def run(ctx):
        assert await polled(ctx, block, 2) == up(0)
        # In the next poll, the word that is read behind this one.
        before = list(POLL)[len(POLL) - 1 - POLL[::-1].index(register) - 1]
        start = len(phy.reads)
        while phy.reads[start:].count(before) == 0:
            await ctx.tick()
        phy.wrong = wrong
        for _ in range(3):
            assert await polled(ctx, block) == up(0)
        assert phy.wrong == 0

    bus.run(run)


@pytest.mark.parametrize("pull", [0, 1])
def test_a_line_that_is_stuck_is_no_phy(pull):
    block, bus = poller(pull=pull, addresses=(7,))

    async def run(ctx):
        assert await polled(ctx, block, 3) == nothing(0) | {"address": ctx.get(block.status[0].address)}
        assert ctx.get(block.polls[0]) == 3

    bus.run(run)


ABILITIES = [  # Annex 28B.3, the best first: speed, full duplex, bits of registers 4 and 9, of 5 and 10
    (2, 1, (9, 1 << 9), (10, 1 << 11)),
    (2, 0, (9, 1 << 8), (10, 1 << 10)),
    (1, 1, (4, 1 << 8), (5, 1 << 8)),
    (1, 0, (4, 1 << 9), (5, 1 << 9)),
    (1, 0, (4, 1 << 7), (5, 1 << 7)),
    (0, 1, (4, 1 << 6), (5, 1 << 6)),
    (0, 0, (4, 1 << 5), (5, 1 << 5)),
]


async def resolved(ctx, block, registers: dict[int, int], silent: int | None = None) -> tuple[int, ...]:
    """Present, up, speed and duplex of what these registers say; the step ``silent`` was not answered."""
    ctx.set(block.read, 1)
    for step, register in enumerate(POLL):
        ctx.set(block.step, step)
        ctx.set(block.answered, step != silent)
        ctx.set(block.value, registers[register])
        await ctx.tick()
    ctx.set(block.read, 0)
    found = ctx.get(block.status)
    return found.present, found.up, found.speed, found.full_duplex


def test_speed_and_duplex_are_the_best_that_both_sides_can():
    block, rng = Resolve(), random.Random(1)

    async def run(ctx):
        seen = set()
        for _ in range(400):
            registers = {**GIGABIT, STATUS: GIGABIT[STATUS] | LINK}
            # Beside the abilities anything; the selector of register 4 too.
            spared = {4: 0x3E0, 5: 0x3E0, 9: 0x300, 10: 0xC00}
            registers |= {register: rng.getrandbits(16) & ~mask for register, mask in spared.items()}
            share = rng.choice((0.2, 0.5, 0.8))
            best = (3, 0)
            for speed, full, mine, its in reversed(ABILITIES):
                have = [rng.random() < share for _ in (mine, its)]
                for (register, bit), has in zip((mine, its), have, strict=True):
                    registers[register] |= bit * has
                if all(have):
                    best = speed, full
            assert await resolved(ctx, block, registers) == (1, 1, *best)
            seen.add(best)
        assert seen == {(speed, full) for speed, full, _, _ in ABILITIES} | {(3, 0)}

    simulate(block, run)


def test_registers_that_a_phy_does_not_have_are_not_believed():
    """Without extended status there is no 1000BASE-T; without a link nothing is told."""
    block = Resolve()

    async def run(ctx):
        plain = {
            **GIGABIT,
            STATUS: GIGABIT[STATUS] & ~(1 << 8) | LINK,
            GIGABIT_STATUS: 0xFFFF,
            GIGABIT_CONTROL: 0xFFFF,
        }
        assert await resolved(ctx, block, plain) == (1, 1, 1, 1)
        assert await resolved(ctx, block, GIGABIT) == (1, 0, 0, 0)
        for value in (0, 0xFFFF):
            assert await resolved(ctx, block, {**GIGABIT, STATUS: value}) == (0, 0, 0, 0)

    simulate(block, run)


def test_a_phy_must_answer_each_time():
    block = Resolve()

    async def run(ctx):
        registers = {**GIGABIT, STATUS: GIGABIT[STATUS] | LINK}
        for silent in range(len(POLL)):
            assert await resolved(ctx, block, registers, silent) == (0, 0, 0, 0)
            assert await resolved(ctx, block, registers) == (1, 1, 2, 1)

    simulate(block, run)


@pytest.mark.parametrize("speed, bits", [(0, 0), (1, 1 << 13), (2, 1 << 6)])
@pytest.mark.parametrize("full", [0, 1])
def test_without_negotiation_the_control_register_tells(speed, bits, full):
    block = Resolve()

    async def run(ctx):
        registers = {**GIGABIT, STATUS: GIGABIT[STATUS] | LINK, CONTROL: bits | full << 8, ADVERTISED: 0xFFFF}
        assert await resolved(ctx, block, registers) == (1, 1, speed, full)

    simulate(block, run)


@pytest.mark.parametrize(
    ("addresses", "message"),
    [
        ((), "addresses must have one PHY or more"),
        ((0, None), r"each of several PHYs on a bus needs its address, not \(0, None\)"),
        ((32,), "addresses must be 0 to 31, not 32"),
        ((3, 3), r"addresses must differ, not \(3, 3\)"),
    ],
)
def test_addresses_that_cannot_be_are_refused(addresses, message):
    with pytest.raises(ValueError, match=message):
        MdioPoller(clock_hz=CLOCK_HZ, addresses=addresses)


def test_a_clock_that_is_too_slow_is_refused():
    with pytest.raises(ValueError, match=r"clock_hz must be 2.5e\+07 or more, not 24000000.0"):
        MdioReader(clock_hz=24e6)
