# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

import random

import pytest

from spigate.hdl.board.words import SHORTEST, PacketsToWords, WordsToPackets
from spigate.hdl.net.packet import BEAT_BYTES
from tests.hdl.streams import PAUSES, put, put_packets, simulate, take, take_packet

LONGEST = 90
LENGTHS = [*range(SHORTEST, LONGEST + 1)]
RESETS = [0, 1, 2, 3, 4, 5, 8, 15, 16]
"""Words behind which a reset comes."""


def words(frame: bytes, bad: int | None = None) -> list[dict]:
    """``frame`` as a MAC has it, with an error in byte ``bad``; what is behind the end is filled."""
    found = []
    for at in range(0, len(frame), 4):
        part = frame[at : at + 4]
        last = at + 4 >= len(frame)
        found.append(
            {
                "data": int.from_bytes(part.ljust(4, b"\xa5"), "little"),
                "last": last,
                "last_be": 1 << (len(part) - 1) if last else 0,
                "error": 1 << (bad - at) if bad is not None and 0 <= bad - at < 4 else 0,
            }
        )
    return found


def frames(lengths, seed: int) -> list[bytes]:
    rng = random.Random(seed)
    return [rng.randbytes(length) for length in lengths]


async def take_frame(ctx, stream, pause) -> bytes:
    """The next frame of ``stream``, words of a MAC; the rules for words that are not the last are held."""
    frame = bytearray()
    while True:
        word = await take(ctx, stream, pause)
        assert not word.error
        if not word.last:
            assert word.last_be == 0
            frame += word.data.to_bytes(4, "little")
            continue
        count = {1: 1, 2: 2, 4: 3, 8: 4}[word.last_be]
        return bytes(frame + word.data.to_bytes(4, "little")[:count])


def received(beat_bytes: int, items: list[list[dict]], pauses: str = "none"):
    """What comes out for frames as words, and what the strobes say."""
    block = WordsToPackets(beat_bytes=beat_bytes, longest=LONGEST)
    source_pause, sink_pause = PAUSES[pauses]()
    found, told = [], []

    async def feed(ctx):
        for item in items:
            await put(ctx, block.i, item, source_pause)

    async def read(ctx):
        for _ in items:
            found.append(await take_packet(ctx, block.o, sink_pause))

    async def watch(ctx):
        strobes = block.ended, block.bad, block.short, block.long, block.bytes, block.o.payload
        async for _, _, ended, *why, size, beat in ctx.tick().sample(*strobes):
            if ended:
                assert beat.last and beat.abort == any(why)
                told.append(next((n for n, w in zip(("bad", "short", "long"), why, strict=True) if w), size))

    simulate(block, feed, read, background=[watch])
    return found, told


@pytest.mark.parametrize("beat_bytes", BEAT_BYTES)
@pytest.mark.parametrize("pauses", PAUSES)
def test_frames_of_every_length_arrive(beat_bytes, pauses):
    sent = frames(LENGTHS, 1)
    found, told = received(beat_bytes, [words(frame) for frame in sent], pauses)
    assert found == sent
    assert told == LENGTHS


@pytest.mark.parametrize("beat_bytes", BEAT_BYTES)
@pytest.mark.parametrize("pauses", ["none", "both"])
def test_short_and_long_frames_are_aborted_between_good_ones(beat_bytes, pauses):
    wrong = [*range(1, 18), *range(SHORTEST - 9, SHORTEST), *range(LONGEST + 1, LONGEST + 18), 4 * LONGEST]
    lengths = [each for size in wrong for each in (size, 64)]
    sent = frames(lengths, 2)
    found, told = received(beat_bytes, [words(frame) for frame in sent], pauses)
    assert found == [frame if len(frame) == 64 else None for frame in sent]
    assert told == [64 if n == 64 else "short" if n < SHORTEST else "long" for n in lengths]


@pytest.mark.parametrize("beat_bytes", BEAT_BYTES)
def test_an_error_in_any_byte_aborts_the_frame_alone(beat_bytes):
    marked = [0, 1, 2, 3, 4, 30, 58, 62, 63]
    sent = frames([64] * (2 * len(marked)), 3)
    items = [words(frame, marked[at // 2] if at % 2 else None) for at, frame in enumerate(sent)]
    found, told = received(beat_bytes, items)
    assert found == [None if at % 2 else frame for at, frame in enumerate(sent)]
    assert told == [64, "bad"] * len(marked)


def test_an_error_is_told_before_a_wrong_length():
    short, long = frames([20, 2 * LONGEST], 4)
    _, told = received(8, [words(short, 3), words(long, 170), words(long, 3)])
    assert told == ["bad"] * 3


@pytest.mark.parametrize("beat_bytes", BEAT_BYTES)
@pytest.mark.parametrize("come", RESETS)
def test_a_reset_ends_the_frame_that_has_begun(beat_bytes, come):
    block = WordsToPackets(beat_bytes=beat_bytes, longest=LONGEST)
    first, second = frames([80, 64], 5)
    found, told = [], []

    async def feed(ctx):
        await put(ctx, block.i, words(first)[:come])
        ctx.set(block.reset, 1)
        await ctx.tick().repeat(4)
        ctx.set(block.reset, 0)
        await put(ctx, block.i, words(second))

    async def read(ctx):
        for _ in range(1 + bool(come)):
            found.append(await take_packet(ctx, block.o))

    async def watch(ctx):
        async for _, _, ended, bad in ctx.tick().sample(block.ended, block.bad):
            if ended:
                told.append(bad)

    simulate(block, feed, read, background=[watch])
    assert found == [None, second] if come else [second]
    assert told == [1, 0] if come else [0]


@pytest.mark.parametrize("beat_bytes", BEAT_BYTES)
@pytest.mark.parametrize("pauses", PAUSES)
def test_packets_of_every_length_leave_as_words(beat_bytes, pauses):
    block = PacketsToWords(beat_bytes=beat_bytes)
    source_pause, sink_pause = PAUSES[pauses]()
    sent = frames(range(1, 50), 6)
    told = [0, 0]

    async def feed(ctx):
        await put_packets(ctx, block.i, sent, source_pause)

    async def read(ctx):
        assert [await take_frame(ctx, block.o, sink_pause) for _ in sent] == sent

    async def watch(ctx):
        async for _, _, strobe, count in ctx.tick().sample(block.sent, block.bytes):
            told[0] += strobe
            told[1] += count

    simulate(block, feed, read, background=[watch])
    assert told == [len(sent), sum(map(len, sent))]


@pytest.mark.parametrize("beat_bytes", BEAT_BYTES)
def test_a_word_leaves_every_clock(beat_bytes):
    block = PacketsToWords(beat_bytes=beat_bytes)
    (sent,) = frames([LONGEST], 7)
    clocks = []

    async def feed(ctx):
        await put_packets(ctx, block.i, [sent])

    async def read(ctx):
        ctx.set(block.o.ready, 1)
        async for _, _, valid in ctx.tick().sample(block.o.valid):
            clocks.append(valid)
            if len(clocks) > len(words(sent)):
                return

    simulate(block, feed, read)
    assert clocks == [1] * len(words(sent)) + [0]


@pytest.mark.parametrize("beat_bytes", BEAT_BYTES)
@pytest.mark.parametrize("gone", RESETS)
def test_a_reset_drops_the_rest_of_a_frame_that_has_begun(beat_bytes, gone):
    block = PacketsToWords(beat_bytes=beat_bytes)
    first, second = frames([62, 64], 8)
    lost = []

    async def feed(ctx):
        await put_packets(ctx, block.i, [first, second])

    async def read(ctx):
        for _ in range(gone):
            await take(ctx, block.o)
        ctx.set(block.reset, 1)
        await ctx.tick().repeat(3)
        ctx.set(block.reset, 0)
        expected = [second] if gone else [first, second]
        assert [await take_frame(ctx, block.o, PAUSES["none"]()[1]) for _ in expected] == expected

    async def watch(ctx):
        async for _, _, strobe in ctx.tick().sample(block.lost):
            lost.append(strobe)

    simulate(block, feed, read, background=[watch])
    assert sum(lost) == (0 < gone < 16)


def test_a_limit_below_the_shortest_frame_is_refused():
    with pytest.raises(ValueError, match="longest must be 60 or more, not 59"):
        WordsToPackets(beat_bytes=8, longest=59)
