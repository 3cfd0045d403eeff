# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

import random
import struct

import pytest

from spigate.hdl.crypto.blocks import BLOCK_WORDS, HASHED_BYTES, Blocks
from tests.hdl.streams import PAUSES, put, simulate


def padded(message: bytes) -> list[int]:
    """FIPS 180-4 5.1.1, behind a first block that has been hashed before."""
    whole = (
        message
        + b"\x80"
        + bytes(-(len(message) + 9) % 64)
        + struct.pack(">Q", 8 * (HASHED_BYTES + len(message)))
    )
    return list(struct.unpack(f">{len(whole) // 4}I", whole))


def items(message: bytes) -> list[dict]:
    chunks = [message[at : at + 4] for at in range(0, len(message), 4)] or [b""]
    return [
        {
            "data": int.from_bytes(chunk.ljust(4, b"\xff"), "little"),
            "count": len(chunk),
            "last": at == len(chunks),
        }
        for at, chunk in enumerate(chunks, 1)
    ]


@pytest.mark.parametrize("pauses", PAUSES)
def test_pads_messages_of_every_length(pauses):
    source_pause, sink_pause = PAUSES[pauses]()
    block = Blocks()
    source = random.Random(1)
    messages = [
        source.randbytes(length) for length in [*range(48, 72), 0, 1, 2, 3, 4, 5, 119, 120, 128, 1000]
    ]

    async def feed(ctx):
        await put(ctx, block.i, [item for message in messages for item in items(message)], source_pause)

    async def read(ctx):
        for message in messages:
            words = padded(message)
            for at in range(0, len(words), BLOCK_WORDS):
                while not ctx.get(block.available) or sink_pause():
                    await ctx.tick()
                assert ctx.get(block.last) == (at + BLOCK_WORDS == len(words))
                for address in range(BLOCK_WORDS):
                    ctx.set(block.address, address)
                    assert ctx.get(block.word) == words[at + address]
                ctx.set(block.release, 1)
                await ctx.tick()
                ctx.set(block.release, 0)

    simulate(block, feed, read)


def test_holds_two_blocks():
    block = Blocks()
    taken = 0

    async def bench(ctx):
        nonlocal taken
        ctx.set(block.i.payload, {"data": 0, "count": 4, "last": 0})
        ctx.set(block.i.valid, 1)
        for _ in range(4 * BLOCK_WORDS):
            taken += ctx.get(block.i.ready)
            await ctx.tick()

    simulate(block, bench)
    assert taken == 2 * BLOCK_WORDS
