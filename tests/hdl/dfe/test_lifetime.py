# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

import random

from spigate.hdl.dfe.lifetime import LATENCY, Lifetime
from tests.hdl.streams import simulate

NEVER = 2**64 - 1


def questions():
    source = random.Random(1)
    for base in (0, 1, 2**32 - 1, 2**32, 5 * 2**32, 2**63, NEVER - 4096):
        for increment in (0, 1, 2, 1400, 4095):
            for soft_distance in (-1, 0, 1, increment - 1, increment, increment + 1, 2**32, -(2**32)):
                for hard_distance in (increment - 1, increment, increment + 1, 2**33):
                    used = min(base + source.randrange(3), NEVER - increment)
                    yield (
                        used,
                        min(max(used + soft_distance, 0), NEVER),
                        min(max(used + hard_distance, 0), NEVER),
                        increment,
                    )
    yield 10**12, NEVER, NEVER, 1500


def test_counts_and_compares():
    lifetime = Lifetime()
    asked = list(questions())
    answers = []

    async def testbench(ctx):
        for at in range(len(asked) + LATENCY):
            used, soft, hard, increment = asked[min(at, len(asked) - 1)]
            for name, value in (("used", used), ("soft", soft), ("hard", hard), ("increment", increment)):
                ctx.set(getattr(lifetime, name), value)
            if at >= LATENCY:
                answers.append(
                    (ctx.get(lifetime.total), ctx.get(lifetime.expired), ctx.get(lifetime.reached))
                )
            await ctx.tick()

    simulate(lifetime, testbench)
    expected = [
        (used + increment, used + increment > hard, used < soft <= used + increment)
        for used, soft, hard, increment in asked
    ]
    assert answers == expected
    assert {expired for _, expired, _ in expected} == {reached for _, _, reached in expected} == {False, True}
