# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

import random
from collections import Counter

import pytest

from spigate.hdl.cfe.balancer import Balancer
from spigate.hdl.contract.enums import Balance
from spigate.hdl.net.descriptor import MAX_DFES
from tests.hdl.streams import simulate


async def choose(ctx, balancer, flow=0):
    ctx.set(balancer.start, 1)
    ctx.set(balancer.flow, flow)
    await ctx.tick()
    ctx.set(balancer.start, 0)
    for _ in range(balancer.LATENCY - 1):
        assert not ctx.get(balancer.done)
        await ctx.tick()
    assert ctx.get(balancer.done)
    chosen = None if ctx.get(balancer.none) else ctx.get(balancer.dfe)
    await ctx.tick()
    return chosen


def run(dfes, script):
    balancer = Balancer(dfes=dfes)

    async def testbench(ctx):
        ctx.set(balancer.eligible, (1 << dfes) - 1)
        await script(ctx, balancer)

    simulate(balancer, testbench)


@pytest.mark.parametrize("dfes", [1, 2, 3, 8])
def test_round_robin_gives_each_the_same(dfes):
    async def script(ctx, balancer):
        ctx.set(balancer.balance, Balance.ROUND_ROBIN)
        chosen = [await choose(ctx, balancer) for _ in range(4 * dfes)]
        assert Counter(chosen) == {at: 4 for at in range(dfes)}
        assert chosen[:dfes] == chosen[dfes : 2 * dfes]

    run(dfes, script)


@pytest.mark.parametrize("dfes", [1, 2, 3, 8])
def test_weighted_gives_each_its_weight_in_turn(dfes):
    weights = [3, 1, 0, 15, 2, 4, 0, 5][:dfes]

    async def script(ctx, balancer):
        ctx.set(balancer.balance, Balance.WEIGHTED)
        ctx.set(balancer.weights, weights + [0] * (MAX_DFES - dfes))
        turn = sum(max(weight, 1) for weight in weights)
        chosen = [await choose(ctx, balancer) for _ in range(4 * turn)][turn:]
        assert Counter(chosen) == {at: 3 * max(weight, 1) for at, weight in enumerate(weights)}
        changes = sum(a != b for a, b in zip(chosen, chosen[1:], strict=False))
        assert changes <= 3 * dfes

    run(dfes, script)


@pytest.mark.parametrize("dfes", [2, 3, 8])
def test_least_loaded_takes_the_one_with_most_room(dfes):
    rng = random.Random(dfes)

    async def script(ctx, balancer):
        ctx.set(balancer.balance, Balance.LEAST_LOADED)
        for _ in range(60):
            free = [rng.choice([0, 1, 5, 100, 2048]) for _ in range(dfes)]
            eligible = rng.randrange(1, 1 << dfes)
            for at in range(dfes):
                ctx.set(balancer.free[at], free[at])
            ctx.set(balancer.eligible, eligible)
            await ctx.tick().repeat(6)
            best = max(free[at] for at in range(dfes) if eligible >> at & 1)
            assert await choose(ctx, balancer) in [
                at for at in range(dfes) if eligible >> at & 1 and free[at] == best
            ]
        for at in range(dfes):
            ctx.set(balancer.free[at], 7)
        ctx.set(balancer.eligible, (1 << dfes) - 1)
        await ctx.tick().repeat(6)
        assert Counter([await choose(ctx, balancer) for _ in range(3 * dfes)]) == {
            at: 3 for at in range(dfes)
        }

    run(dfes, script)


@pytest.mark.parametrize("dfes", [1, 2, 3, 8])
def test_flow_hash_spreads_flows_and_moves_only_those_of_a_lost_dfe(dfes):
    async def script(ctx, balancer):
        ctx.set(balancer.balance, Balance.FLOW_HASH)
        before = [await choose(ctx, balancer, flow) for flow in range(256)]
        assert before == [await choose(ctx, balancer, flow) for flow in range(256)]
        shares = Counter(before)
        assert len(shares) == dfes and max(shares.values()) - min(shares.values()) <= 1
        if dfes > 1:
            ctx.set(balancer.eligible, (1 << dfes) - 1 ^ 1 << dfes - 1)
            after = [await choose(ctx, balancer, flow) for flow in range(256)]
            assert all(a == b for a, b in zip(after, before, strict=True) if b != dfes - 1)
            assert dfes - 1 not in after

    run(dfes, script)


@pytest.mark.parametrize("balance", Balance)
@pytest.mark.parametrize("dfes", [1, 3, 8])
def test_never_one_that_is_not_eligible(balance, dfes):
    rng = random.Random(3)

    async def script(ctx, balancer):
        ctx.set(balancer.balance, balance)
        ctx.set(balancer.weights, [2] * MAX_DFES)
        for _ in range(100):
            eligible = rng.randrange(1 << dfes)
            ctx.set(balancer.eligible, eligible)
            for at in range(dfes):
                ctx.set(balancer.free[at], rng.randrange(4))
            await ctx.tick().repeat(rng.randrange(1, 5))
            chosen = await choose(ctx, balancer, rng.randrange(256))
            assert eligible >> chosen & 1 if eligible else chosen is None

    run(dfes, script)


@pytest.mark.filterwarnings("ignore::amaranth.UnusedElaboratable")
def test_refuses_sizes_it_cannot_have():
    with pytest.raises(ValueError, match="dfes must be 1 to 8, not 9"):
        Balancer(dfes=9)
