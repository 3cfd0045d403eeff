# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Punts of all classes against one another, with a control element that is slow, or gone."""

import random
from collections import Counter, defaultdict

import pytest

from spigate.hdl.contract.enums import PuntClass, Reason
from spigate.hdl.contract.reasons import CLASSES, class_of
from spigate.hdl.net.descriptor import CE_VERSION
from spigate.hdl.net.packet import BEAT_BYTES
from spigate.hdl.punts import ROOM, PuntQueues
from tests.hdl.streams import PAUSES, never, put_packets, simulate, sometimes, take, take_packet

REASON = {
    PuntClass.IKE: Reason.IKE,
    PuntClass.LINK: Reason.NOT_IP,
    PuntClass.EXCEPTION: Reason.SA_ABSENT,
    PuntClass.SPI: Reason.UNKNOWN_SPI,
    PuntClass.REST: Reason.NO_RULE,
}
UNLIMITED = [{"period": 0, "burst": 0}] * len(PuntClass)


def punt(reason, number, size=60):
    return bytes([CE_VERSION, reason]) + bytes(16) + number.to_bytes(4) + bytes(size)


def kind(packet):
    return class_of(packet[1])


def number(packet):
    return int.from_bytes(packet[18:22])


def run(
    packets,
    *,
    beat_bytes=16,
    depth=128,
    limits=UNLIMITED,
    pauses=(never, never),
    reads=True,
    abort=lambda at: False,
    script=None,
):
    """What came out, and what was dropped, by class."""
    queues, came, dropped, kept = PuntQueues(beat_bytes=beat_bytes, depth=depth), [], Counter(), 0
    source_pause, sink_pause = pauses
    clocks = 0

    async def feed(ctx):
        nonlocal clocks
        ctx.set(queues.limits, limits)
        await ctx.tick()
        await put_packets(ctx, queues.i, packets, source_pause, abort)
        idle = 0
        while idle < 200:
            idle = 0 if reads and ctx.get(queues.o.valid) else idle + 1
            await ctx.tick()

    async def count(ctx):
        nonlocal clocks, kept
        async for _, _, was_kept in ctx.tick().sample(queues.kept):
            kept += was_kept
            clocks += 1

    async def read(ctx):
        while reads:
            came.append(await take_packet(ctx, queues.o, sink_pause))

    async def stable(ctx):
        offered = None
        async for _, _, valid, ready, payload in ctx.tick().sample(
            queues.o.valid, queues.o.ready, queues.o.payload.as_value()
        ):
            assert offered is None or valid and payload == offered
            offered = payload if valid and not ready else None

    async def drops(ctx):
        while True:
            dropped[PuntClass(await take(ctx, queues.dropped))] += 1

    simulate(queues, feed, background=[read, drops, stable, count])
    if reads:
        assert kept == len(came)
    assert kept + dropped.total() == sum(not abort(at) for at in range(len(packets)))
    return came, dropped


def test_every_reason_of_a_punt_has_a_class():
    assert {
        class_of(reason) for reason in Reason if Reason.UNKNOWN_SPI <= reason < Reason.SOFT_LIFETIME
    } == set(PuntClass)
    assert all(Reason.UNKNOWN_SPI <= reason < Reason.SOFT_LIFETIME for reason in CLASSES)


@pytest.mark.parametrize("beat_bytes", BEAT_BYTES)
@pytest.mark.parametrize("pauses", PAUSES)
def test_whole_packets_in_the_order_of_their_class(beat_bytes, pauses):
    rng = random.Random(pauses)
    packets = [punt(REASON[rng.choice(list(PuntClass))], at, rng.randrange(1, 100)) for at in range(120)]
    came, dropped = run(packets, beat_bytes=beat_bytes, depth=2048, pauses=PAUSES[pauses]())
    assert not dropped and Counter(came) == Counter(packets)
    for ike in (True, False):
        assert [each for each in came if (kind(each) == PuntClass.IKE) == ike] == [
            each for each in packets if (kind(each) == PuntClass.IKE) == ike
        ]


@pytest.mark.parametrize("beat_bytes", BEAT_BYTES)
@pytest.mark.parametrize("flood", [each for each in PuntClass if each != PuntClass.IKE])
def test_no_flood_takes_ikes_room(beat_bytes, flood):
    """A reader at a twentieth of the pace: of ten times what it can take, all of IKE comes up, whatever
    else there is.
    """
    packets = [punt(REASON[PuntClass.IKE if at % 25 == 24 else flood], at) for at in range(400)]
    came, dropped = run(packets, beat_bytes=beat_bytes, pauses=(never, sometimes(1, 0.9)))
    assert [number(each) for each in came if kind(each) == PuntClass.IKE] == list(range(24, 400, 25))
    assert set(dropped) == {flood} and dropped[flood] > 200


@pytest.mark.parametrize(
    "first, second",
    [
        (PuntClass.REST, PuntClass.SPI),
        (PuntClass.SPI, PuntClass.EXCEPTION),
        (PuntClass.EXCEPTION, PuntClass.LINK),
        (PuntClass.REST, PuntClass.LINK),
    ],
)
def test_a_reader_that_is_gone_leaves_room_for_the_next_class(first, second):
    """One class fills its part, then another one still finds room."""
    packets = [punt(REASON[first], at) for at in range(40)] + [punt(REASON[second], at) for at in range(40)]
    _, dropped = run(packets, reads=False)
    beats = -(-len(packets[0]) // 16)
    let = {each: 40 - dropped[each] for each in (first, second)}
    # Besides what is in the queue: the packet that is offered, and one that found the last room.
    assert 0 <= let[first] - 128 * ROOM[first] // 8 // beats <= 2
    assert let[second] >= 128 * (ROOM[second] - ROOM[first]) // 8 // beats - 1 >= 1


@pytest.mark.parametrize("limited", PuntClass)
def test_each_class_has_its_rate(limited):
    """Ten tokens of the last bucket full, then one in 400 clocks; others have no limit."""
    limits = [{"period": 400 * (each == limited), "burst": 10} for each in PuntClass]
    packets = [
        punt(REASON[each], at)
        for at in range(200)
        for each in (limited, PuntClass((limited + 1) % len(PuntClass)))
    ]
    came, dropped = run(packets, depth=2048, limits=limits)
    clocks = len(packets) * 6
    expected = 63 + clocks // 400
    assert abs(sum(kind(each) == limited for each in came) - expected) <= 3
    assert set(dropped) == {limited}


def test_flood_at_line_rate_is_dropped_at_line_rate():
    """A reader that is gone: whoever sends does not wait."""
    packets = [punt(REASON[PuntClass.REST], at, 44) for at in range(200)]
    queues = PuntQueues(beat_bytes=16, depth=64)
    clocks = []

    async def feed(ctx):
        ctx.set(queues.limits, UNLIMITED)
        ctx.set(queues.dropped.ready, 1)
        await put_packets(ctx, queues.i, packets)

    async def count(ctx):
        async for _, _, valid in ctx.tick().sample(queues.i.valid):
            clocks.append(valid)

    simulate(queues, feed, background=[count])
    assert sum(clocks) <= 200 * -(-len(packets[0]) // 16) + 4


def test_aborted_ones_vanish():
    packets = [punt(REASON[PuntClass(at % 5)], at) for at in range(40)]
    came, dropped = run(packets, depth=2048, abort=lambda at: at % 3 == 0)
    assert not dropped and len(came) == sum(at % 3 != 0 for at in range(40))


@pytest.mark.parametrize("beat_bytes", BEAT_BYTES)
def test_tells_when_an_unknown_spi_would_find_room(beat_bytes):
    queues = PuntQueues(beat_bytes=beat_bytes, depth=128)
    seen = defaultdict(set)

    async def feed(ctx):
        ctx.set(queues.limits, UNLIMITED)
        ctx.set(queues.dropped.ready, 1)
        await ctx.tick().repeat(4)
        for at in range(40):
            seen[ctx.get(queues.spi_open)].add(at)
            await put_packets(ctx, queues.i, [punt(Reason.UNKNOWN_SPI, at)])
            await ctx.tick().repeat(4)

    simulate(queues, feed)
    assert max(seen[1]) < min(seen[0])
