# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

import random

import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from spigate.hdl.axi.stream import AxiStream, AxiStreamToPackets, PacketsToAxiStream
from spigate.hdl.net.packet import BEAT_BYTES, packets
from tests.hdl.streams import PAUSES, beats, never, put_packets, simulate, sometimes, take_packet


async def put_beats(ctx, axis, values, pause=never):
    """Offers (tdata, tkeep, tlast, tuser) one after the other."""
    for value in values:
        while pause():
            await ctx.tick()
        for name, part in zip(("tdata", "tkeep", "tlast", "tuser"), value, strict=True):
            ctx.set(getattr(axis, name), part)
        ctx.set(axis.tvalid, 1)
        ready = False
        while not ready:
            _, _, ready = await ctx.tick().sample(axis.tready)
        ctx.set(axis.tvalid, 0)


def transfers(packet, beat_bytes, user=0):
    return [
        (beat["data"], (1 << beat["count"]) - 1, int(beat["last"]), user & beat["last"])
        for beat in beats(packet, beat_bytes)
    ]


class Back(wiring.Component):
    """Packets to AXI4-Stream and back."""

    def __init__(self, beat_bytes):
        self._beat_bytes = beat_bytes
        super().__init__({"i": In(packets(beat_bytes)), "o": Out(packets(beat_bytes))})

    def elaborate(self, platform):
        m = Module()
        m.submodules.out = out = PacketsToAxiStream(beat_bytes=self._beat_bytes)
        m.submodules.back = back = AxiStreamToPackets(beat_bytes=self._beat_bytes)
        wiring.connect(m, wiring.flipped(self.i), out.i)
        wiring.connect(m, back.o, wiring.flipped(self.o))
        for name in ("tdata", "tkeep", "tlast", "tvalid"):
            m.d.comb += getattr(back.axis, name).eq(getattr(out.axis, name))
        m.d.comb += out.axis.tready.eq(back.axis.tready)
        return m


@pytest.mark.parametrize("beat_bytes", BEAT_BYTES)
@pytest.mark.parametrize("pauses", PAUSES)
def test_packets_go_out_and_come_back(beat_bytes, pauses):
    source_pause, sink_pause = PAUSES[pauses]()
    back = Back(beat_bytes)
    sent = [random.Random(n).randbytes(n) for n in [*range(1, 3 * beat_bytes + 2), 64, 65, 100]]

    async def source(ctx):
        await put_packets(ctx, back.i, sent, source_pause)

    async def sink(ctx):
        assert [await take_packet(ctx, back.o, sink_pause) for _ in sent] == sent

    simulate(back, source, sink)


@pytest.mark.parametrize("beat_bytes", BEAT_BYTES)
def test_byte_0_is_in_the_low_bits_and_tkeep_counts_from_there(beat_bytes):
    out = PacketsToAxiStream(beat_bytes=beat_bytes)

    async def source(ctx):
        await put_packets(ctx, out.i, [bytes(range(beat_bytes + 3))])

    async def sink(ctx):
        ctx.set(out.axis.tready, 1)
        seen = []
        while len(seen) < 2:
            _, _, valid, *beat = await ctx.tick().sample(
                out.axis.tvalid, out.axis.tdata, out.axis.tkeep, out.axis.tlast
            )
            seen += [beat] if valid else []
        assert seen[0] == [int.from_bytes(range(beat_bytes), "little"), (1 << beat_bytes) - 1, 0]
        assert seen[1][0] & 0xFF_FFFF == int.from_bytes(range(beat_bytes, beat_bytes + 3), "little")
        assert seen[1][1:] == [0b111, 1]

    simulate(out, source, sink)


@pytest.mark.parametrize("beat_bytes", BEAT_BYTES)
@pytest.mark.parametrize("pause", [never, sometimes(9)], ids=["steady", "pauses"])
def test_damaged_sparse_and_empty_frames_are_aborted_and_the_next_is_unharmed(beat_bytes, pause):
    into = AxiStreamToPackets(beat_bytes=beat_bytes)
    full, sound = (1 << beat_bytes) - 1, bytes(range(2 * beat_bytes + 5))
    whole = (7, full, 0, 0)
    bad = [
        transfers(sound, beat_bytes, user=1),  # the port says so
        [(0, 0, 1, 0)],  # no bytes
        [whole, (0, 0, 1, 0)],  # nothing in the last beat
        [(7, full >> 1, 0, 0), (7, full, 1, 0)],  # a gap between beats
        [(7, 0, 0, 0), (7, full, 1, 0)],  # a beat without bytes
        [whole, (7, 0b101, 1, 0)],  # a gap in the last beat
        [whole, (7, full & ~1, 1, 0)],  # bytes that do not begin at the low end
        [(7, full & ~0b10, 0, 0), whole, (7, 1, 1, 0)],  # damage is remembered
    ]

    async def source(ctx):
        for frame in bad:
            await put_beats(ctx, into.axis, frame, pause)
            await put_beats(ctx, into.axis, transfers(sound, beat_bytes), pause)
        # tuser means nothing before the last beat.
        await put_beats(
            ctx, into.axis, [(*beat[:3], 1 - beat[2]) for beat in transfers(sound, beat_bytes)], pause
        )

    async def sink(ctx):
        for _ in bad:
            assert await take_packet(ctx, into.o) is None
            assert await take_packet(ctx, into.o) == sound
        assert await take_packet(ctx, into.o) == sound

    simulate(into, source, sink)


@pytest.mark.parametrize("beat_bytes", BEAT_BYTES)
def test_sustains_a_beat_a_clock(beat_bytes):
    back = Back(beat_bytes)

    async def sink(ctx):
        ctx.set(back.o.ready, 1)
        ctx.set(back.i.valid, 1)
        ctx.set(back.i.payload, {"count": beat_bytes, "last": 0, "data": 1})
        taken = 0
        for _ in range(50):
            _, _, valid = await ctx.tick().sample(back.o.valid)
            taken += valid
        assert taken == 48

    simulate(back, sink)


def test_refuses_an_unsupported_width():
    with pytest.raises(ValueError, match=r"beat_bytes must be one of \(8, 16\), not 4"):
        AxiStream(4, user=False)
