# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

import random

import pytest

from spigate.hdl.cfe.cam import Cam
from spigate.hdl.contract import hashing
from tests.hdl.cfe.tables import cam_index, entry
from tests.hdl.streams import simulate

ENTRIES = 1024
FOUND = ("dfe", "sa", "generation", "route")
SLOTS = hashing.WAYS * hashing.cam_rows(ENTRIES)


def key(destination, spi, protocol=50, ipv6=0):
    return {"destination": destination, "spi": spi, "protocol": protocol, "ipv6": ipv6}


def read(result):
    return tuple(getattr(result, name) for name in FOUND) if result.hit else None


async def write(ctx, cam, index, valid=1, **values):
    ctx.set(cam.write.payload, entry("cam", index, valid=valid, **values))
    ctx.set(cam.write.valid, 1)
    await ctx.tick().until(cam.write.ready)
    ctx.set(cam.write.valid, 0)


async def lookup(ctx, cam, keys):
    """Looks ``keys`` up back to back; the results in order."""
    results = []
    for at in range(len(keys) + cam.LATENCY):
        ctx.set(cam.start, at < len(keys))
        if at < len(keys):
            ctx.set(cam.key, keys[at])
        assert ctx.get(cam.done) == (at >= cam.LATENCY)
        if at >= cam.LATENCY:
            results.append(read(ctx.get(cam.result)))
        await ctx.tick()
    return results


def place(keys, entries=ENTRIES):
    """First free way of each key, with whatever does not fit left out: index by key."""
    taken, placed = set(), {}
    for at, one in enumerate(keys):
        for way in range(hashing.WAYS):
            index = cam_index(way, **one, entries=entries)
            if index not in taken:
                taken.add(index)
                placed[at] = index
                break
    return placed


def result_of(at):
    return (at % 8, at * 7 % 65536, at * 11 % 256, at % 256)


def values_of(at):
    return dict(zip(FOUND, result_of(at), strict=True))


def test_finds_every_entry_and_nothing_else():
    """Greedy placement in 1536 slots of as many keys as fit (1024 of them at least); one lookup a clock."""
    cam = Cam(entries=ENTRIES)
    rng = random.Random(7)
    keys = [
        key(
            rng.choice([0xC0000201, rng.getrandbits(32), rng.getrandbits(128)]),
            rng.randrange(256, 1 << 32),
            rng.choice([50, 51]),
            rng.randrange(2),
        )
        for _ in range(1300)
    ]
    placed = place(keys)
    assert len(placed) >= 1024

    async def run(ctx):
        for at, index in placed.items():
            await write(ctx, cam, index, **keys[at], **values_of(at))
        expected = [result_of(at) if at in placed else None for at in range(len(keys))]
        assert await lookup(ctx, cam, keys) == expected
        at = next(iter(placed))
        await write(ctx, cam, placed[at], valid=0, **keys[at], **values_of(at))
        assert await lookup(ctx, cam, [keys[at]]) == [None]

    simulate(cam, run)


@pytest.mark.parametrize("entries", [64, 2048])
def test_other_sizes(entries):
    cam = Cam(entries=entries)
    keys = [key(0x0A000000 + at, 0x1000 + at) for at in range(60)]
    placed = place(keys, entries)

    async def run(ctx):
        for at, index in placed.items():
            await write(ctx, cam, index, **keys[at], **values_of(at))
        assert await lookup(ctx, cam, keys) == [result_of(at) if at in placed else None for at in range(60)]

    simulate(cam, run)


def test_every_slot_of_every_way():
    """Fills all slots with keys that belong there, and reads each back."""
    cam = Cam(entries=64)
    count = hashing.WAYS * hashing.cam_rows(64)
    slots, spi = {}, 256
    while len(slots) < count:
        for way in range(hashing.WAYS):
            slots.setdefault(cam_index(way, destination=0xC0000201, spi=spi, entries=64), None)
            if slots[cam_index(way, destination=0xC0000201, spi=spi, entries=64)] is None:
                slots[cam_index(way, destination=0xC0000201, spi=spi, entries=64)] = spi
                break
        spi += 1

    async def run(ctx):
        for index, one in slots.items():
            await write(ctx, cam, index, **key(0xC0000201, one), **values_of(index))
        keys = [key(0xC0000201, one) for one in slots.values()]
        assert await lookup(ctx, cam, keys) == [result_of(index) for index in slots]

    simulate(cam, run)


def test_same_row_but_another_key_is_no_hit():
    """Keys that collide with a stored one in its row, and keys that differ from it in a single bit."""
    cam = Cam(entries=ENTRIES)
    stored = key(0xC0000201, 0x1234)
    index = cam_index(0, **stored)
    colliding = []
    spi = 256
    while len(colliding) < 5:
        if cam_index(0, destination=0xC0000201, spi=spi) == index and spi != 0x1234:
            colliding.append(key(0xC0000201, spi))
        spi += 1
    number = hashing.cam_key(**stored)
    near = [number ^ 1 << bit for bit in range(hashing.CAM_KEY_BITS)]
    near = [key(n & (1 << 128) - 1, n >> 128 & 0xFFFF_FFFF, n >> 160 & 0xFF, n >> 168) for n in near]

    async def run(ctx):
        # Filling all slots with the stored key shows a compare that looks at less than all of it.
        for slot in range(SLOTS):
            await write(ctx, cam, slot, **stored, **values_of(3))
        assert await lookup(ctx, cam, [stored, *colliding, *near, stored]) == [result_of(3)] + [None] * (
            5 + len(near)
        ) + [result_of(3)]

    simulate(cam, run, clocks=20_000)


@pytest.mark.parametrize("others", [0, 1, 2])
def test_update_under_lookup_shows_the_old_or_the_new_entry(others):
    """Lookups every clock, a share of them of the key that is rewritten all the time; the entry alternates
    between two keys, so that a mix of old and new would be a hit with a wrong result."""
    cam = Cam(entries=ENTRIES)
    stored, other = key(0xC0000201, 0x1234), key(0xC0000201, 0x9999)
    index = cam_index(1, **stored)
    written, asked, seen = [], [], []

    async def writer(ctx):
        for at in range(150):
            result = (at % 8, at * 257 % 65536, at * 5 % 256, at * 3 % 256)
            spi = 0x1234 if at % 3 else 0x4321
            ctx.set(
                cam.write.payload,
                entry(
                    "cam",
                    index,
                    valid=1,
                    destination=0xC0000201,
                    protocol=50,
                    spi=spi,
                    **dict(zip(FOUND, result, strict=True)),
                ),
            )
            ctx.set(cam.write.valid, 1)
            ready = False
            while not ready:
                _, _, ready = await ctx.tick().sample(cam.write.ready)
            written.append((clock[0], result if at % 3 else None))
        ctx.set(cam.write.valid, 0)

    clock = [0]

    async def reader(ctx):
        while len(written) < 150:
            # Never the same key every clock: a write waits for a clock without its row.
            mine = clock[0] % (others + 2) == 0 or others == 2 and clock[0] % 4 == 1
            ctx.set(cam.start, 1)
            ctx.set(cam.key, stored if mine else other)
            asked.append(mine)
            if ctx.get(cam.done) and asked[clock[0] - cam.LATENCY]:
                seen.append((clock[0], read(ctx.get(cam.result))))
            await ctx.tick()
            clock[0] += 1

    simulate(cam, writer, reader)
    for at, result in seen:
        before = [one for when, one in written if when <= at - cam.LATENCY - 1]
        during = [one for when, one in written if at - cam.LATENCY - 1 < when <= at]
        assert result in [*(before[-1:] or [None]), *during], (at, result)
    assert sum(result is not None for _, result in seen) > 30


def test_ignores_an_index_beyond_the_table():
    cam = Cam(entries=64)
    stored = key(0xC0000201, 0x1234)

    async def run(ctx):
        for beyond in (hashing.WAYS * 32, 4 * 32, 1 << 15):
            for row in range(32):
                await write(ctx, cam, beyond + row, **stored, **values_of(1))
        assert await lookup(ctx, cam, [stored]) == [None]

    simulate(cam, run)


@pytest.mark.filterwarnings("ignore::amaranth.UnusedElaboratable")
def test_refuses_sizes_it_cannot_have():
    with pytest.raises(ValueError, match="entries must be 64 to 8192, not 10000"):
        Cam(entries=10000)
    with pytest.raises(ValueError, match="ways must be 1 to 8, not 0"):
        Cam(ways=0)
