# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

import pytest

from spigate.hdl.net.slice import Slice
from tests.hdl.streams import PAUSES, passes_on, simulate


@pytest.mark.parametrize("pauses", PAUSES)
@pytest.mark.parametrize("half", [False, True])
def test_keeps_items_and_their_order(half, pauses):
    passes_on(Slice(8, half=half), pauses, range(1, 100))


def test_a_slice_passes_an_item_a_clock_and_cuts_ready():
    dut = Slice(8)

    async def bench(ctx):
        ctx.set(dut.i.valid, 1)
        ctx.set(dut.o.ready, 1)
        for item in range(8):
            ctx.set(dut.i.payload, item)
            _, _, ready, valid, payload = await ctx.tick().sample(dut.i.ready, dut.o.valid, dut.o.payload)
            assert ready and (valid, payload) == ((1, item - 1) if item else (0, 0))
        # With the sink standing still it takes one more, and is not ready again before the clock after the
        # sink is.
        ctx.set(dut.o.ready, 0)
        taken = []
        for item in range(8, 12):
            ctx.set(dut.i.payload, item)
            _, _, ready = await ctx.tick().sample(dut.i.ready)
            taken.append(ready)
        assert taken == [1, 0, 0, 0]
        ctx.set(dut.i.valid, 0)
        ctx.set(dut.o.ready, 1)
        assert not ctx.get(dut.i.ready)
        left = []
        for _ in range(4):
            _, _, valid, payload = await ctx.tick().sample(dut.o.valid, dut.o.payload)
            left += [payload] if valid else []
        assert left == [7, 8] and ctx.get(dut.i.ready)

    simulate(dut, bench)


def test_half_a_slice_passes_an_item_every_other_clock():
    dut = Slice(8, half=True)

    async def bench(ctx):
        ctx.set(dut.i.valid, 1)
        ctx.set(dut.o.ready, 1)
        seen = []
        for clock in range(6):
            ctx.set(dut.i.payload, clock)
            _, _, ready, valid, payload = await ctx.tick().sample(dut.i.ready, dut.o.valid, dut.o.payload)
            seen.append((ready, valid and payload))
        assert seen == [(1, 0), (0, 0), (1, 0), (0, 2), (1, 0), (0, 4)]

    simulate(dut, bench)
