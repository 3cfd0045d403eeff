# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""What a packet costs a DFE beside its crypto: the clocks from one to the next, around an engine that takes
a word a clock.
"""

import random

import pytest

from spigate.hdl.dfe.dfe import Dfe
from spigate.hdl.net.packet import BEAT_BYTES
from spigate.sim.stand_in import StandIn
from tests.hdl.dfe.esp import SUITES, Peer
from tests.hdl.dfe.test_dfe import clear, entry, inner_packet, protect
from tests.hdl.streams import put, put_packets, simulate

pytestmark = pytest.mark.slow

SETTLED = 10
"""Packets after which the pace is steady."""
GCM, CBC, NULL = SUITES[0], SUITES[4], SUITES[-1]


class Unencrypted(Peer):
    """The other end of an SA whose cipher text is the plain text, and whose ICV nobody checks."""

    def seal(self, sequence, text, iv):
        return self.spi.to_bytes(4) + sequence.to_bytes(4) + iv + text + bytes(self.suite.icv)


def clocks_a_packet(beat_bytes, suite, tunnel, inbound, size, packets) -> float:
    peer = Unencrypted(suite, spi=0x1000, tunnel=tunnel, inbound=inbound, seed=random.Random(1))
    packet = inner_packet(size - 28)
    sent = [protect(peer, 0, at + 1, packet) if inbound else clear(packet) for at in range(packets)]
    dfe = Dfe(beat_bytes=beat_bytes, lanes=1, sa_entries=16, sources=4, engine=StandIn)
    ends, programmed = [], []

    async def source(ctx):
        await put(ctx, dfe.tables, entry(0, peer))
        await ctx.tick().repeat(20)
        programmed.append(True)
        await put_packets(ctx, dfe.i, [frame for frame, _ in sent])

    async def infos(ctx):
        while not programmed:
            await ctx.tick()
        await put(ctx, dfe.info, [info for _, info in sent])

    async def sink(ctx):
        for stream in (dfe.o, dfe.egress, dfe.reports):
            ctx.set(stream.ready, 1)
        clock = 0
        while len(ends) < packets:
            _, _, valid, last, dropped = await ctx.tick().sample(
                dfe.o.valid, dfe.o.payload.last, dfe.reports.valid
            )
            clock += 1
            assert not dropped
            if valid and last:
                ends.append(clock)

    simulate(dfe, source, infos, sink)
    return (ends[-1] - ends[SETTLED]) / (packets - 1 - SETTLED)


@pytest.mark.parametrize("beat_bytes", BEAT_BYTES)
@pytest.mark.parametrize("inbound", [True, False], ids=["in", "out"])
@pytest.mark.parametrize(
    "suite, tunnel",
    [(GCM, True), (GCM, False), (CBC, True), (NULL, False)],
    ids=["gcm tunnel", "gcm transport", "cbc tunnel", "null transport"],
)
def test_small_packets(suite, tunnel, inbound, beat_bytes):
    # At 8 bytes a beat the frame itself is up to 20 beats.
    assert clocks_a_packet(beat_bytes, suite, tunnel, inbound, 64, 40) <= {16: 16, 8: 22}[beat_bytes]


@pytest.mark.parametrize("inbound", [True, False], ids=["in", "out"])
def test_long_packets_cost_their_words_and_no_more_than_small_ones(inbound):
    words = 1 + 1 + -(-1404 // StandIn.word_bytes) + inbound
    assert clocks_a_packet(16, GCM, True, inbound, 1400, 20) <= words + 24
