# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

import random

import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

from spigate.hdl.contract.enums import Port, Reason
from spigate.hdl.guard import Guard
from spigate.hdl.net.descriptor import FROM_FORWARDING
from spigate.hdl.net.packet import BEAT_BYTES, packets
from tests.hdl.streams import PAUSES, put, put_packets, simulate, take, take_packet

WHY = ("protected", "bypassed", "injected")
REASONS = [dict(zip(WHY, (bits & 1, bits >> 1 & 1, bits >> 2), strict=True)) for bits in range(8)]


class Taken(wiring.Component):
    """A guard whose ``o_egress`` go with the last beats of their packets, as in forwarding."""

    def __init__(self, *, beat_bytes, sources):
        self.guard = Guard(beat_bytes=beat_bytes, sources=sources)
        super().__init__({"o": Out(packets(beat_bytes)).array(sources), "stopped": Out(1)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.guard = guard = self.guard
        m.d.comb += self.stopped.eq(guard.stopped)
        for inner, egress, outer in zip(guard.o, guard.o_egress, self.o, strict=True):
            m.d.comb += [
                outer.payload.eq(inner.payload),
                outer.valid.eq(inner.valid & egress.valid),
                inner.ready.eq(outer.ready & egress.valid),
                egress.ready.eq(inner.valid & inner.ready & inner.payload.last),
            ]
        return m


def run(egress, *, beat_bytes=8, pauses="none", abort=lambda at: False, deaf=False, clocks=600):
    """Source n sends a packet for each of ``egress[n]``: the packets, what came out of each source, the
    reports, and how often the guard struck. ``deaf``: nobody takes reports."""
    block = Taken(beat_bytes=beat_bytes, sources=len(egress))
    rng = random.Random(beat_bytes)
    frames = [[rng.randbytes(rng.randrange(1, 4 * beat_bytes)) for _ in items] for items in egress]
    out, reports, strikes, benches = [[] for _ in egress], [], [], []
    for at in range(len(egress)):
        pause, take_pause = PAUSES[pauses]()

        async def send(ctx, at=at, pause=pause):
            await put_packets(ctx, block.guard.i[at], frames[at], pause, abort=abort)

        async def describe(ctx, at=at, pause=pause):
            await put(ctx, block.guard.egress[at], egress[at], pause)

        async def sink(ctx, at=at, pause=take_pause):
            while True:
                out[at].append(await take_packet(ctx, block.o[at], pause))

        benches += [send, describe, sink]

    async def report(ctx):
        _, pause = PAUSES[pauses]()
        while not deaf:
            reports.append(await take(ctx, block.guard.reports, pause))

    async def watch(ctx):
        async for _, _, stopped in ctx.tick().sample(block.stopped):
            if stopped:
                strikes.append(stopped)

    async def wait(ctx):
        await ctx.tick().repeat(clocks)

    simulate(block, wait, background=[*benches, report, watch])
    return frames, out, reports, len(strikes)


@pytest.mark.parametrize("beat_bytes", BEAT_BYTES)
@pytest.mark.parametrize("pauses", ["none", "both"])
def test_only_what_has_a_reason_leaves_at_the_network_port(beat_bytes, pauses):
    """All combinations of reasons, each beside the others."""
    to = {"port": Port.NETWORK, "out_of": {"sa": 0x1234, "dfe": 5, "valid": 1, "generation": 7}}
    frames, out, reports, strikes = run(
        [[to | why] * 3 for why in REASONS], beat_bytes=beat_bytes, pauses=pauses
    )
    assert out == [sent if any(why.values()) else [] for sent, why in zip(frames, REASONS, strict=True)]
    assert [(report.reason, report.dropped, report.dfe, report.sa) for report in reports] == [
        (Reason.GUARD, 1, 5, 0x1234)
    ] * 3
    assert strikes == 3


def test_other_ports_are_free():
    frames, out, reports, strikes = run(
        [[{"port": port}] * 2 for port in (Port.SERVER, Port.CE, Port.RECIRCULATE)]
    )
    assert out == frames and not reports and not strikes


def test_packets_of_one_source_are_judged_one_by_one():
    good, bad = {"port": Port.NETWORK, "protected": 1}, {"port": Port.NETWORK}
    frames, out, reports, strikes = run([[good, bad, bad, good, bad, good]], pauses="source", clocks=900)
    assert out == [[frames[0][at] for at in (0, 3, 5)]]
    assert [(report.dfe, report.sa) for report in reports] == [(FROM_FORWARDING, 0)] * 3 and strikes == 3


def test_each_is_told_where_several_end_at_once():
    to = [{"port": Port.NETWORK, "out_of": {"sa": at, "dfe": at, "valid": 1}} for at in range(4)]
    _, out, reports, strikes = run([[each] for each in to])
    assert (
        not any(out)
        and sorted((report.dfe, report.sa) for report in reports) == [(at, at) for at in range(4)]
        and strikes == 4
    )


def test_who_is_stopped_holds_up_nobody_else():
    """Nobody takes reports: the second packet that is stopped waits, other sources do not."""
    frames, out, reports, _ = run(
        [[{"port": Port.NETWORK}] * 5, [{"port": Port.NETWORK, "bypassed": 1}] * 5], deaf=True
    )
    assert out == [[], frames[1]] and not reports


def test_an_aborted_packet_is_not_told():
    _, out, reports, strikes = run([[{"port": Port.NETWORK}] * 3], abort=lambda at: at != 1)
    assert not out[0] and len(reports) == strikes == 1


@pytest.mark.filterwarnings("ignore::amaranth.UnusedElaboratable")
def test_refuses_no_sources():
    with pytest.raises(ValueError, match="sources must be 1 or more, not 0"):
        Guard(beat_bytes=8, sources=0)
