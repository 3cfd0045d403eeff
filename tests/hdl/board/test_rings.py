# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The rings against a host that keeps their contract, one that is slow, and one that does not keep it."""

import random

import pytest

from spigate.hdl.board.rings import LONGEST, InjectRing, PuntRing
from spigate.hdl.net.packet import BEAT_BYTES
from tests.hdl.streams import PAUSES, never, put_packets, simulate, sometimes, take_packet

BITS = 10
WORDS = 1 << BITS


def packets(seed: int, lengths) -> list[bytes]:
    source = random.Random(seed)
    return [source.randbytes(length) for length in lengths]


def lengths(beat_bytes: int) -> list[int]:
    """Around the words and the beats."""
    return [
        1,
        2,
        3,
        4,
        5,
        *(beat_bytes + by for by in (-1, 0, 1)),
        *(3 * beat_bytes + by for by in (-1, 0, 1, 5)),
    ]


def as_words(packet: bytes) -> list[int]:
    """A frame in a ring."""
    padded = packet + bytes(-len(packet) % 4)
    return [
        len(packet),
        *(int.from_bytes(padded[at : at + 4], "little") for at in range(0, len(padded), 4)),
    ]


def from_words(words: list[int]) -> bytes:
    """The first frame in words; what fills its last word must be zero."""
    data = b"".join(word.to_bytes(4, "little") for word in words[1 : 1 + (words[0] + 3) // 4])
    assert not any(data[words[0] :])
    return data[: words[0]]


async def read(ctx, bus, address: int) -> int:
    ctx.set(bus.read_address, address)
    ctx.set(bus.read, 1)
    done, clocks = False, 0
    while not done:
        _, _, done, word = await ctx.tick().sample(bus.read_done, bus.read_data)
        clocks += 1
        assert clocks < 8, "a read waits"
    ctx.set(bus.read, 0)
    await ctx.tick()
    return word


async def write(ctx, bus, address: int, word: int) -> None:
    ctx.set(bus.write_address, address)
    ctx.set(bus.write_data, word)
    ctx.set(bus.write, 1)
    _, _, done = await ctx.tick().sample(bus.write_done)
    assert done, "a write waits"
    ctx.set(bus.write, 0)


async def strobe(ctx, value, written, index: int) -> None:
    ctx.set(value, index % (1 << 32))
    ctx.set(written, 1)
    await ctx.tick()
    ctx.set(written, 0)


class PuntHost:
    """Reads a punt ring as the contract says."""

    def __init__(self, ring):
        self._ring, self.tail = ring, 0

    async def frame(self, ctx, pause=never, twice=False) -> bytes:
        """The next frame; waits for it. ``twice``: reads every word a second time."""
        while True:
            while pause():
                await ctx.tick()
            head = ctx.get(self._ring.head)
            if head != self.tail:
                break
            await ctx.tick()
        words = []
        for at in range(1 + (await read(ctx, self._ring.bus, self.tail % (1 << 14)) + 3) // 4):
            word = await read(ctx, self._ring.bus, (self.tail + at) % (1 << 14))
            assert not twice or word == await read(ctx, self._ring.bus, (self.tail + at) % (1 << 14))
            words.append(word)
        self.tail += len(words)
        assert (head - self.tail) % (1 << 32) < WORDS, "the head moved by part of a frame"
        await strobe(ctx, self._ring.tail, self._ring.tail_written, self.tail)
        return from_words(words)


@pytest.mark.parametrize("beat_bytes", BEAT_BYTES)
@pytest.mark.parametrize("pauses", PAUSES)
def test_punts_come_as_they_are_and_in_their_order(beat_bytes, pauses):
    dut = PuntRing(beat_bytes=beat_bytes, bits=BITS)
    sent = packets(1, lengths(beat_bytes))
    source_pause, sink_pause = PAUSES[pauses]()
    host = PuntHost(dut)

    async def feed(ctx):
        await put_packets(ctx, dut.i, sent, source_pause)

    async def take(ctx):
        assert [await host.frame(ctx, sink_pause, twice=True) for _ in sent] == sent

    simulate(dut, feed, take)


@pytest.mark.parametrize("beat_bytes", BEAT_BYTES)
def test_an_aborted_punt_leaves_no_trace(beat_bytes):
    dut = PuntRing(beat_bytes=beat_bytes, bits=BITS)
    sent = packets(2, [40, 3, 41, beat_bytes, 17, 100])
    host = PuntHost(dut)

    async def feed(ctx):
        await put_packets(ctx, dut.i, sent, abort=lambda at: at % 2 == 0)

    async def take(ctx):
        assert [await host.frame(ctx) for _ in sent[1::2]] == sent[1::2]

    simulate(dut, feed, take)


def test_without_room_nothing_is_taken_and_nothing_lost():
    """A host that reads nothing for long: the ring fills up to its last word, and goes on where it stood."""
    dut = PuntRing(beat_bytes=8, bits=BITS)
    sent = packets(3, [2000, 2000, 100, 9])
    host = PuntHost(dut)
    stood = []

    async def feed(ctx):
        await put_packets(ctx, dut.i, sent)

    async def take(ctx):
        for _ in range(2500):
            await ctx.tick()
        stood.append(ctx.get(dut.used))
        assert not ctx.get(dut.i.ready)
        assert [await host.frame(ctx) for _ in sent] == sent
        assert ctx.get(dut.used) == 0

    simulate(dut, feed, take)
    assert stood == [501 + 501]


def test_a_ring_is_full_to_its_last_word():
    dut = PuntRing(beat_bytes=8, bits=BITS)
    first = packets(4, [4 * (WORDS // 2 - 1)] * 2)  # two of half the ring
    host = PuntHost(dut)

    async def feed(ctx):
        await put_packets(ctx, dut.i, [*first, b"more"])

    async def take(ctx):
        await ctx.tick().until(dut.used == WORDS)
        for _ in range(20):
            await ctx.tick()
        assert ctx.get(dut.used) == WORDS
        assert [await host.frame(ctx) for _ in range(3)] == [*first, b"more"]

    simulate(dut, feed, take)


@pytest.mark.parametrize("wrong", [1, -1, WORDS, 1 << 31])
def test_a_tail_beyond_the_head_or_behind_itself_is_ignored(wrong):
    dut = PuntRing(beat_bytes=8, bits=BITS)
    host = PuntHost(dut)
    sent = packets(5, [30, 31])

    async def feed(ctx):
        await put_packets(ctx, dut.i, sent[:1])

    async def take(ctx):
        assert await host.frame(ctx) == sent[0]
        head = ctx.get(dut.head)
        await strobe(ctx, dut.tail, dut.tail_written, head + wrong)
        await strobe(ctx, dut.tail, dut.tail_written, head)  # the same once more
        await ctx.tick()
        assert ctx.get(dut.used) == 0
        await put_packets(ctx, dut.i, sent[1:])
        assert await host.frame(ctx) == sent[1]

    simulate(dut, feed, take)


class InjectHost:
    """Writes an inject ring as the contract says."""

    def __init__(self, ring):
        self._ring, self.head = ring, 0

    async def frame(self, ctx, frame: bytes, twice=False) -> None:
        await self.words(ctx, as_words(frame), twice)

    async def words(self, ctx, words: list[int], twice=False) -> None:
        while (self.head + len(words) - ctx.get(self._ring.tail)) % (1 << 32) > WORDS:
            await ctx.tick()
        for _ in range(1 + twice):
            for at, word in enumerate(words):
                await write(ctx, self._ring.bus, (self.head + at) % (1 << 14), word)
        self.head += len(words)
        for _ in range(1 + twice):
            await strobe(ctx, self._ring.head, self._ring.head_written, self.head)


@pytest.mark.parametrize("beat_bytes", BEAT_BYTES)
@pytest.mark.parametrize("pauses", ["none", "sink"])
def test_injected_frames_come_as_they_are_and_in_their_order(beat_bytes, pauses):
    dut = InjectRing(beat_bytes=beat_bytes, bits=BITS)
    sent = packets(6, lengths(beat_bytes))
    host = InjectHost(dut)

    async def feed(ctx):
        for at, frame in enumerate(sent):
            await host.frame(ctx, frame, twice=at % 2 == 1)

    async def take(ctx):
        pause = PAUSES[pauses]()[1]
        assert [await take_packet(ctx, dut.o, pause, trimmed=True) for _ in sent] == sent
        for _ in range(3):
            await ctx.tick()
        assert ctx.get(dut.used) == 0

    simulate(dut, feed, take)


def test_the_longest_frames_are_injected():
    dut = InjectRing(beat_bytes=16, bits=BITS)
    sent = packets(6, [LONGEST, 1, LONGEST - 1])
    host = InjectHost(dut)

    async def feed(ctx):
        for frame in sent:
            await host.frame(ctx, frame)

    async def take(ctx):
        assert [await take_packet(ctx, dut.o, trimmed=True) for _ in sent] == sent

    simulate(dut, feed, take)


def test_the_hosts_accesses_do_not_wait_for_the_gateway():
    """It takes nothing: the ring fills up, each access is answered, and nothing is lost."""
    dut = InjectRing(beat_bytes=8, bits=BITS)
    sent = packets(7, [4 * 255] * 4)  # exactly the ring
    host = InjectHost(dut)

    async def feed(ctx):
        for frame in sent:
            await host.frame(ctx, frame)
        assert ctx.get(dut.used) == WORDS
        assert [await take_packet(ctx, dut.o, sometimes(1)) for _ in sent] == sent

    simulate(dut, feed)


@pytest.mark.parametrize(
    "words",
    [
        [0],
        [0, 1, 2],
        [LONGEST + 1, *range((LONGEST + 4) // 4)],
        [1 << 31, 0],
        [9, 0, 0],
        [8, 0],
        [5],
    ],
)
def test_a_frame_that_cannot_be_right_takes_all_with_it_up_to_the_head(words):
    dut = InjectRing(beat_bytes=8, bits=BITS)
    host = InjectHost(dut)
    bad = []

    async def watch(ctx):
        async for _, _, pulse in ctx.tick().sample(dut.bad):
            bad.append(pulse)

    async def feed(ctx):
        await host.words(ctx, words)
        await ctx.tick().until(dut.used == 0)
        await host.frame(ctx, b"what comes behind is sound")
        assert await take_packet(ctx, dut.o) == b"what comes behind is sound"

    simulate(dut, feed, background=[watch])
    assert sum(bad) == 1


@pytest.mark.parametrize("wrong", [-1, WORDS, WORDS - 7, 1 << 31])
def test_a_head_beyond_the_ring_or_behind_itself_is_ignored(wrong):
    dut = InjectRing(beat_bytes=8, bits=BITS)
    host = InjectHost(dut)

    async def feed(ctx):
        await host.frame(ctx, b"first of them")  # four and one words, which nobody takes
        await ctx.tick()
        assert ctx.get(dut.used) == 5
        await strobe(ctx, dut.head, dut.head_written, host.head + wrong)
        await ctx.tick()
        used = ctx.get(dut.used)
        assert used == (5 if wrong != WORDS - 7 else WORDS - 2)

    simulate(dut, feed)


@pytest.mark.parametrize("bits", [9, 14])
@pytest.mark.parametrize("ring", [PuntRing, InjectRing])
def test_lengths_that_the_map_has_no_room_for_are_refused(ring, bits):
    with pytest.raises(ValueError, match=f"bits must be 10 to 13, not {bits}"):
        ring(beat_bytes=8, bits=bits)
