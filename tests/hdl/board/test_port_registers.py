# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

import pytest

from spigate.hdl.board.ethernet import QUEUE_BYTES, FramePort, Statistics
from spigate.hdl.board.port_registers import NAME, PORTS, WIDE, PortRegisters
from spigate.hdl.contract import rdl
from tests.hdl.streams import simulate

REGISTERS = {
    each.name.removeprefix(f"{NAME}."): each for each in rdl.registers("board").values() if each.port == NAME
}
FIRST = REGISTERS["status"].at(0)


async def access(ctx, bus, word: int, *, write: bool = False) -> int | None:
    """What a read gives; None: an error."""
    kind = "write" if write else "read"
    ctx.set(getattr(bus, f"{kind}_address"), word)
    ctx.set(getattr(bus, kind), 1)
    done = 0
    while not done:
        _, _, done, data, error = await ctx.tick().sample(
            getattr(bus, f"{kind}_done"), bus.read_data, getattr(bus, f"{kind}_error")
        )
    ctx.set(getattr(bus, kind), 0)
    await ctx.tick()
    return None if error else data


def test_each_register_has_its_statistic():
    block = PortRegisters()
    values = [
        {
            name: 1000 * index + 10 * at + (0x5A << 32 if name in WIDE else 0)
            for at, name in enumerate(Statistics().members)
        }
        for index in range(PORTS)
    ]

    async def read(ctx):
        for index in range(PORTS):
            ctx.set(block.statistics[index], values[index])
        ctx.set(block.inband[1], {"up": 1, "speed": 2, "full_duplex": 1})
        ctx.set(block.resetting[0], 1)
        ctx.set(block.link[1], 1)
        ctx.set(block.resets[1], 77)
        phy = {"present": 1, "up": 1, "speed": 1, "full_duplex": 1, "address": 17, "identifier": 0x1410DD1}
        ctx.set(block.phy[1], phy)
        ctx.set(block.polls[0], 0x8001)
        found = {
            (name, index): await access(ctx, block.bus, (register.at(index) - FIRST) // 4)
            for name, register in REGISTERS.items()
            for index in range(PORTS)
        }
        for index in range(PORTS):
            for name, value in values[index].items():
                if name in WIDE:
                    assert (found[f"{name}_low", index], found[f"{name}_high", index]) == (
                        value & 0xFFFF_FFFF,
                        0x5A,
                    )
                else:
                    assert found[name, index] == value
        assert REGISTERS["status"].unpack(found["status", 0]) == {
            "up": 0,
            "speed": 0,
            "full_duplex": 0,
            "resetting": 1,
            "link": 0,
        }
        assert REGISTERS["status"].unpack(found["status", 1]) == {
            "up": 1,
            "speed": 2,
            "full_duplex": 1,
            "resetting": 0,
            "link": 1,
        }
        assert [found["phy_id", index] for index in range(PORTS)] == [0, phy.pop("identifier")]
        assert [found["resets", index] for index in range(PORTS)] == [0, 77]
        assert REGISTERS["phy"].unpack(found["phy", 0]) == {**dict.fromkeys(phy, 0), "polls": 0x8001}
        assert REGISTERS["phy"].unpack(found["phy", 1]) == {**phy, "polls": 0}

    simulate(block, read)


def test_gaps_and_writes_are_errors():
    block = PortRegisters()

    async def read(ctx):
        there = {(each.at(index) - FIRST) // 4 for each in REGISTERS.values() for index in range(PORTS)}
        for word in range(1 << len(block.bus.read_address)):
            assert (await access(ctx, block.bus, word) is not None) == (word in there)
        assert await access(ctx, block.bus, 0, write=True) is None

    simulate(block, read)


def test_ports_that_the_map_does_not_have_are_refused():
    with pytest.raises(ValueError, match="ports must be 1 to 2, not 3"):
        PortRegisters(3)


def test_frames_of_which_no_two_fit_into_a_queue_are_refused():
    with pytest.raises(ValueError, match="longest must be at most 2048, not 2049"):
        FramePort(beat_bytes=8, longest=QUEUE_BYTES // 2 + 1)
