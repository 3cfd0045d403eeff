# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

import random

import pytest

from spigate.hdl.dfe.job import BUFFER_WORDS, STORE_BYTES
from spigate.hdl.dfe.store import READ_CLOCKS, PacketStore
from tests.hdl.streams import simulate


@pytest.mark.parametrize("buffers", [2, 4])
def test_reads_what_was_written_at_any_word_a_beat_a_clock(buffers):
    store = PacketStore(buffers=buffers)
    words = STORE_BYTES // 4
    source = random.Random(1)
    model = [bytearray(4 * BUFFER_WORDS) for _ in range(buffers)]
    writes = [(b, a, words) for b in range(buffers) for a in range(0, BUFFER_WORDS, words)]  # everything once
    writes += [
        (source.randrange(buffers), source.randrange(BUFFER_WORDS - words + 1), 0) for _ in range(1000)
    ]

    async def run(ctx):
        for buffer, address, whole in writes:
            mask = (1 << words) - 1 if whole else source.getrandbits(words)
            data = source.randbytes(STORE_BYTES)
            for word in range(words):
                if mask >> word & 1:
                    at = 4 * (address + word)
                    model[buffer][at : at + 4] = data[4 * word : 4 * word + 4]
            ctx.set(store.write_enable, mask)
            ctx.set(store.write_buffer, buffer)
            ctx.set(store.write_address, address)
            ctx.set(store.write_data, int.from_bytes(data, "little"))
            await ctx.tick()
        ctx.set(store.write_enable, 0)
        reads = [(source.randrange(buffers), source.randrange(BUFFER_WORDS - words + 1)) for _ in range(1000)]
        reads += [
            (b, a)
            for b in range(buffers)
            for a in (0, 1, 2, 3, BUFFER_WORDS - words - 1, BUFFER_WORDS - words)
        ]
        for at in range(len(reads) + READ_CLOCKS):
            buffer, address = reads[min(at, len(reads) - 1)]
            ctx.set(store.read_buffer, buffer)
            ctx.set(store.read_address, address)
            if at >= READ_CLOCKS:
                buffer, address = reads[at - READ_CLOCKS]
                got = ctx.get(store.read_data).to_bytes(STORE_BYTES, "little")
                assert got == model[buffer][4 * address : 4 * address + STORE_BYTES]
            await ctx.tick()

    simulate(store, run)


def test_a_read_one_clock_after_a_write_gives_the_new_words():
    store = PacketStore(buffers=2)

    async def run(ctx):
        ctx.set(store.write_enable, (1 << STORE_BYTES // 4) - 1)
        ctx.set(store.write_address, 7)
        ctx.set(store.write_data, 0x1234)
        await ctx.tick()
        ctx.set(store.write_enable, 0)
        ctx.set(store.read_address, 7)
        await ctx.tick().repeat(READ_CLOCKS)
        assert ctx.get(store.read_data) == 0x1234

    simulate(store, run)
