# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

import random

import pytest

from spigate.hdl.cfe.ingress import Ingress
from spigate.hdl.contract.enums import Port, Reason
from spigate.hdl.net.descriptor import CE_VERSION, FROM_CFE
from spigate.hdl.net.packet import BEAT_BYTES, MAX_FRAME
from tests.hdl.streams import PAUSES, never, put, put_packets, simulate, take, take_packet


def inject(frame, *, version=CE_VERSION, mode=0, port=Port.NETWORK, depth=0):
    return bytes([version, mode, port, depth]) + bytes(12) + frame


def run(port, beat_bytes, packets, pauses="none", aborted=(), depths=None, expect=0):
    """(frames out, their origins, reasons of drops); waits for ``expect`` frames, the others must be
    reported.
    """
    ingress = Ingress(beat_bytes=beat_bytes, port=port)
    source_pause, sink_pause = PAUSES[pauses]()
    frames, origins, reasons = [], [], []

    async def source(ctx):
        await put_packets(ctx, ingress.i, packets, source_pause, abort=lambda at: at in aborted)

    async def egress(ctx):
        await put(ctx, ingress.egress, [{"port": 3, "depth": depth} for depth in depths], source_pause)

    async def sink(ctx):
        for _ in range(expect):
            origin = await take(ctx, ingress.origin)
            origins.append((origin.port, origin.depth, origin.injected, origin.direct))
            frames.append(await take_packet(ctx, ingress.o, sink_pause))

    async def reports(ctx):
        for _ in range(len(packets) - expect):
            report = await take(ctx, ingress.reports, sink_pause)
            assert report.dropped and report.ingress == port and report.dfe == FROM_CFE and report.spi == 0
            reasons.append(report.reason)

    async def nothing_more(ctx):
        await ctx.tick()

    simulate(ingress, source, sink, reports, *([egress] if depths else []), nothing_more)
    return frames, origins, reasons


@pytest.mark.parametrize("beat_bytes", BEAT_BYTES)
@pytest.mark.parametrize("pauses", PAUSES)
def test_a_port_aligns_and_drops_damaged_frames(beat_bytes, pauses):
    rng = random.Random(1)
    packets = [rng.randbytes(size) for size in [*range(1, 2 * beat_bytes + 3), 64, 100, 1514]]
    aborted = set(range(0, len(packets), 3))
    kept = [packet for at, packet in enumerate(packets) if at not in aborted]
    frames, origins, reasons = run(Port.SERVER, beat_bytes, packets, pauses, aborted, expect=len(kept))
    assert frames == [b"\0\0" + packet for packet in kept]
    assert set(origins) == {(Port.SERVER, 0, 0, 0)}
    assert reasons == [Reason.BAD_FRAME] * len(aborted)


@pytest.mark.parametrize("beat_bytes", BEAT_BYTES)
@pytest.mark.parametrize("pauses", ["none", "both"])
def test_frames_longer_than_the_longest_are_taken_and_dropped(beat_bytes, pauses):
    longest = MAX_FRAME - 2
    sizes = [longest, longest + 1, 60, longest + beat_bytes, 5000, longest, 2 * longest, longest - 1, 70]
    packets = [bytes([at]) * size for at, size in enumerate(sizes)]
    kept = [packet for packet in packets if len(packet) <= longest]
    frames, _, reasons = run(Port.NETWORK, beat_bytes, packets, pauses, aborted={4}, expect=len(kept))
    assert frames == [b"\0\0" + packet for packet in kept]
    assert reasons == [Reason.OVERSIZE] * (len(packets) - len(kept))


@pytest.mark.parametrize("beat_bytes", BEAT_BYTES)
@pytest.mark.parametrize("pauses", PAUSES)
def test_recirculated_packets_keep_their_depth_when_others_are_lost(beat_bytes, pauses):
    packets = [
        bytes([at + 1]) * size
        for at, size in enumerate([60, 1, 2000, 77, 90, 61, 5, MAX_FRAME, MAX_FRAME + 1])
    ]
    depths = [0, 1, 2, 3, 1, 2, 3, 1, 2]
    aborted, long = {1, 4}, {2, 8}
    kept = [at for at in range(len(packets)) if at not in aborted | long]
    frames, origins, reasons = run(
        Port.RECIRCULATE, beat_bytes, packets, pauses, aborted, depths, expect=len(kept)
    )
    assert frames == [packets[at] for at in kept]
    assert origins == [(Port.RECIRCULATE, depths[at], 0, 0) for at in kept]
    assert reasons == [Reason.BAD_FRAME, Reason.OVERSIZE, Reason.BAD_FRAME, Reason.OVERSIZE]


@pytest.mark.parametrize("beat_bytes", BEAT_BYTES)
@pytest.mark.parametrize("pauses", PAUSES)
def test_inject_header(beat_bytes, pauses):
    frame = b"\0\0" + bytes(range(14))
    good = {
        inject(frame): (Port.NETWORK, 0, 1, 0),
        inject(frame + b"x", port=Port.SERVER, depth=3): (Port.SERVER, 3, 1, 0),
        inject(frame * 5, port=Port.RECIRCULATE, depth=1): (Port.RECIRCULATE, 1, 1, 0),
        inject(frame * 5, mode=1, port=Port.SERVER): (Port.SERVER, 0, 1, 1),
        inject(frame * 5, mode=1, port=Port.NETWORK): (Port.NETWORK, 0, 1, 1),
        inject((frame * 200)[:MAX_FRAME]): (Port.NETWORK, 0, 1, 0),
    }
    bad = [
        inject(frame, version=0),
        inject(frame, version=2),
        inject(frame, mode=2),
        inject(frame, port=Port.CE),
        inject(frame, port=4),
        inject(frame, mode=1, port=Port.RECIRCULATE),
        inject(frame, depth=4),
    ]
    bad += [inject(frame)[:size] for size in range(1, 32)]
    packets = [*good, *bad]
    random.Random(2).shuffle(packets)
    kept = [packet for packet in packets if packet in good]
    frames, origins, reasons = run(Port.CE, beat_bytes, packets, pauses, expect=len(kept))
    assert frames == [packet[16:] for packet in kept]
    assert origins == [good[packet] for packet in kept]
    assert reasons == [Reason.MALFORMED] * len(bad)


@pytest.mark.parametrize("beat_bytes", BEAT_BYTES)
def test_damaged_and_long_injected_packets(beat_bytes):
    packets = [
        inject(bytes(MAX_FRAME + 1)),
        inject(bytes(60)),
        inject(bytes(60))[:9],
        inject(bytes(60), version=9),
        inject(bytes(20)),
    ]
    frames, _, reasons = run(Port.CE, beat_bytes, packets, aborted={1, 2, 3}, expect=1)
    assert frames == [bytes(20)]
    assert reasons == [Reason.OVERSIZE] + [Reason.BAD_FRAME] * 3


@pytest.mark.parametrize("beat_bytes", BEAT_BYTES)
def test_many_short_frames_wait_for_room(beat_bytes):
    """More frames than the queue remembers origins of, while nothing is taken."""
    ingress = Ingress(beat_bytes=beat_bytes, port=Port.NETWORK)
    packets = [bytes([at]) for at in range(200)]

    async def source(ctx):
        await put_packets(ctx, ingress.i, packets)

    async def sink(ctx):
        await ctx.tick().repeat(300)
        for packet in packets:
            await take(ctx, ingress.origin)
            assert await take_packet(ctx, ingress.o, never) == b"\0\0" + packet

    simulate(ingress, source, sink)
