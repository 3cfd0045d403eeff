# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

from spigate.hdl.crypto.sequencer import LEAD, SHA1_ROUNDS, SHA256_ROUNDS, Sequencer
from tests.hdl.streams import simulate


def test_nothing_moves_while_there_is_nothing_to_do():
    block = Sequencer()

    async def bench(ctx):
        before = (
            ctx.get(block.context_1),
            ctx.get(block.token_1.as_value()),
            ctx.get(block.token_2.as_value()),
        )
        for at in range(20):
            # A block without midstates, then midstates without a block.
            ctx.set(block.available, 3 * (at < 10))
            ctx.set(block.full[0], at >= 10)
            await ctx.tick()
            now = (
                ctx.get(block.context_1),
                ctx.get(block.token_1.as_value()),
                ctx.get(block.token_2.as_value()),
            )
            assert now == before

    simulate(block, bench)


def test_one_message_of_one_block():
    """Lead and block of the inner hash, then of the outer one, each for its context alone; then the bank is
    free.
    """
    for sha1, rounds in ((0, SHA256_ROUNDS), (1, SHA1_ROUNDS)):
        block = Sequencer()
        seen = []

        async def bench(ctx, block=block, sha1=sha1, seen=seen):
            ctx.set(block.available, 2)
            ctx.set(block.last, 2)
            ctx.set(block.full[1], 1)
            ctx.set(block.sha1[1], sha1)
            ctx.set(block.digest_free, 3)
            while not ctx.get(block.bank_done[1]):
                if ctx.get(block.block_done):
                    assert ctx.get(block.block_done) == 2
                    ctx.set(block.available, 0)
                token = ctx.get(block.token_1)
                if token.live:
                    assert ctx.get(block.context_1) == 1
                    assert token.sha1 == sha1
                    seen.append((token.outer, token.real, token.left))
                await ctx.tick()

        simulate(block, bench)
        assert seen == [
            (outer, real, left)
            for outer in (0, 1)
            for real, count in ((0, LEAD), (1, rounds))
            for left in reversed(range(count))
        ]
