# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

import random
from collections import defaultdict

import pytest

from spigate.hdl.contract.ce_header import CE_VERSION
from spigate.hdl.contract.constants import ALIGN, FROM_FORWARDING
from spigate.hdl.contract.enums import Port, Reason
from spigate.hdl.forward import COUNTERS, RECIRCULATING, Forwarding
from spigate.hdl.net.packet import BEAT_BYTES
from tests.hdl.streams import PAUSES, never, put, put_packets, simulate, sometimes, take, take_packet

pytestmark = pytest.mark.slow

OUTPUTS = {Port.NETWORK: "network", Port.SERVER: "server", Port.CE: "punt", Port.RECIRCULATE: "recirculate"}


def frame(source, serial, length, port, rng):
    """A frame with alignment that names its source and its place there. The CE's begin with a header
    instead.
    """
    head = bytes(ALIGN) if port is not Port.CE else bytes([CE_VERSION, Reason.NO_RULE])
    return head + bytes([source, serial >> 8, serial & 255]) + rng.randbytes(length)


def out_of(frame):
    """An SA for a frame to have come out of, of its own."""
    return {
        "sa": frame[-1] << 8 | frame[-2],
        "dfe": frame[-3] % 8,
        "valid": frame[-3] >> 7,
        "generation": frame[-4],
    }


def egress(port, depth, frame, **why):
    """Where a frame goes, and, if nothing else is said, a good reason why it may."""
    return {"port": port, "depth": depth, "out_of": out_of(frame)} | (why or {WHY[frame[-1] % 3]: 1})


WHY = ("protected", "bypassed", "injected")


class Bench:
    """Sources that send what they are given, and sinks that collect what comes out."""

    def __init__(
        self, block, sent, pauses=(never, never), abort=lambda source, at: False, stuck=None, why=None
    ):
        """``sent``: for each source its packets, as (port, depth, frame). ``stuck``: a port that takes
        nothing. ``why``: why all may leave; a good reason each, if it is not given."""
        self.why = why or {}
        self.block, self.sent, self.received, self.reports = block, sent, defaultdict(list), []
        self.depths, self.out_of, self.stuck = [], [], stuck
        source_pause, sink_pause = pauses
        self.sources = []
        for source, packets in enumerate(sent):
            self.sources += self._source(source, packets, source_pause, abort)
        self.sinks = [self._sink(port, sink_pause) for port in Port if port is not stuck]
        self.sinks += [self._depth(sink_pause), self._report(sink_pause)]

    def _source(self, source, packets, pause, abort):
        async def frames(ctx):
            await put_packets(
                ctx,
                self.block.i[source],
                [frame for _, _, frame in packets],
                pause,
                abort=lambda at: abort(source, at),
            )

        async def facts(ctx):
            await put(
                ctx,
                self.block.egress[source],
                [egress(port, depth, frame, **self.why) for port, depth, frame in packets],
                pause,
            )

        return frames, facts

    def _sink(self, port, pause):
        async def sink(ctx):
            while True:
                stream = getattr(self.block, OUTPUTS[port])
                # What goes around stays inside: only ports that someone can see are trimmed.
                self.received[port].append(
                    await take_packet(ctx, stream, pause, trimmed=port is not Port.RECIRCULATE)
                )

        return sink

    def _depth(self, pause):
        async def sink(ctx):
            while True:
                egress = await take(ctx, self.block.recirculate_egress, pause)
                assert egress.port == Port.RECIRCULATE
                self.depths.append(egress.depth)
                self.out_of.append(
                    {name: getattr(egress.out_of, name) for name in ("sa", "dfe", "valid", "generation")}
                )

        return sink

    def _report(self, pause):
        async def sink(ctx):
            while True:
                report = await take(ctx, self.block.reports, pause)
                assert (report.dropped, report.dfe) == (1, FROM_FORWARDING)
                assert report.reason in (Reason.QUEUE_FULL, Reason.PUNT_RATE)
                self.reports.append(report)

        return sink

    def run(self, *benches):
        """Runs until the sources have ended and nothing has moved for a while."""

        async def settle(ctx):
            idle = 0
            while idle < 300:
                moving = any(
                    ctx.get(getattr(self.block, name).valid)
                    for port, name in OUTPUTS.items()
                    if port is not self.stuck
                )
                idle = 0 if moving or any(ctx.get(i.valid) for i in self.block.i) else idle + 1
                await ctx.tick()
            self.counters = {port: ctx.get(self.block.counters[name]) for port, name in COUNTERS.items()}

        simulate(self.block, *self.sources, *benches, settle, background=self.sinks)

    def expected(self, port, source):
        """Frames of ``source`` for ``port``, as they leave."""
        strip = ALIGN if port in (Port.NETWORK, Port.SERVER) else 0
        return [frame[strip:] for at, (to, _, frame) in enumerate(self.sent[source]) if to == port]

    def by_source(self, port):
        """What left by ``port``, sorted by source, in order of leaving."""
        at = 0 if port in (Port.NETWORK, Port.SERVER) else ALIGN
        found = defaultdict(list)
        for packet in self.received[port]:
            found[packet[at]].append(packet)
        return found


@pytest.mark.parametrize("beat_bytes", BEAT_BYTES)
@pytest.mark.parametrize("pauses", PAUSES)
def test_every_source_reaches_every_port_in_order(beat_bytes, pauses):
    rng = random.Random(beat_bytes)
    sources = 3
    sent = []
    for source in range(sources):
        lengths = [*range(1, 2 * beat_bytes + 2), 60, 61, 100]
        packets = [(port, rng.randrange(4), length) for length in lengths for port in Port]
        rng.shuffle(packets)
        sent.append(
            [
                (port, depth, frame(source, serial, length, port, rng))
                for serial, (port, depth, length) in enumerate(packets)
            ]
        )
    bench = Bench(Forwarding(beat_bytes=beat_bytes, sources=sources, depth=1024), sent, PAUSES[pauses]())
    bench.run()
    for port in Port:
        found = bench.by_source(port)
        for source in range(sources):
            assert found[source] == bench.expected(port, source)
        assert bench.counters[port] == len(bench.received[port])
    assert not bench.reports
    # The depths come in the order of their packets.
    depth_of = {
        frame: depth for packets in sent for port, depth, frame in packets if port == Port.RECIRCULATE
    }
    assert bench.depths == [depth_of[packet] for packet in bench.received[Port.RECIRCULATE]]
    assert bench.out_of == [out_of(packet) for packet in bench.received[Port.RECIRCULATE]]


@pytest.mark.parametrize("beat_bytes", BEAT_BYTES)
def test_full_queues_drop_whole_packets_and_every_packet_is_accounted_for(beat_bytes):
    rng = random.Random(beat_bytes)
    sources, count = 4, 60
    sent = []
    for source in range(sources):
        ports = [rng.choice(list(Port)) for _ in range(count)]
        sent.append(
            [
                (port, 1, frame(source, serial, rng.randrange(10, 20 * beat_bytes), port, rng))
                for serial, port in enumerate(ports)
            ]
        )
    bench = Bench(
        Forwarding(beat_bytes=beat_bytes, sources=sources, depth=32), sent, (never, sometimes(1, 0.8))
    )
    bench.run()
    received = sum(len(packets) for packets in bench.received.values())
    assert len(bench.reports) == sources * count - received
    assert len(bench.reports) > 20
    assert received > 20
    for port in Port:
        assert bench.counters[port] == len(bench.received[port])
        for source, packets in bench.by_source(port).items():
            # A subsequence: whole packets, in order.
            rest = iter(bench.expected(port, source))
            assert all(packet in rest for packet in packets)
    assert len(bench.depths) == len(bench.received[Port.RECIRCULATE])


def test_a_port_that_takes_nothing_blocks_no_other_one():
    rng = random.Random(5)
    count = 60
    sent = [
        [
            (port, 0, frame(source, serial, 50, port, rng))
            for serial in range(count)
            for port in (Port.CE, Port.NETWORK)
        ]
        for source in range(2)
    ]
    bench = Bench(Forwarding(beat_bytes=8, sources=2, depth=128), sent, stuck=Port.CE)
    bench.run()
    found = bench.by_source(Port.NETWORK)
    assert all(found[source] == bench.expected(Port.NETWORK, source) for source in range(2))
    # What the stuck queue keeps, and what it cannot.
    assert 8 < bench.counters[Port.CE] < 2 * count
    assert bench.counters[Port.CE] + len(bench.reports) == 2 * count


def test_several_ports_are_served_at_once():
    """Four sources, each for a port of its own, take as long as one."""
    rng = random.Random(6)
    packets, beats = 4, 20
    sent = [
        [(port, 0, frame(source, serial, 8 * beats - 5, port, rng)) for serial in range(packets)]
        for source, port in enumerate(Port)
    ]
    block = Forwarding(beat_bytes=8, sources=4)
    bench = Bench(block, sent)
    clocks = 0

    async def count(ctx):
        nonlocal clocks
        ended = [0] * 4
        while min(ended) < packets:
            for source, i in enumerate(block.i):
                ended[source] += ctx.get(i.valid & i.ready & i.payload.last)
            clocks += 1
            await ctx.tick()

    bench.run(count)
    assert clocks <= packets * (beats + 2) + 2


def test_drops_wait_for_their_reports_without_holding_up_packets():
    """A hundred packets are dropped while nobody takes reports; each is reported later."""
    rng = random.Random(7)
    block = Forwarding(beat_bytes=16, sources=1, depth=16)
    sent = [[(Port.SERVER, 0, frame(0, serial, 16 * 30, Port.SERVER, rng)) for serial in range(100)]]
    bench = Bench(block, sent)
    report = bench.sinks.pop()
    done = []

    async def reports(ctx):
        while not done:
            await ctx.tick()
        await report(ctx)

    frames, egress = bench.sources

    async def frames_then_reports(ctx):
        await frames(ctx)
        done.append(True)

    bench.sources = [frames_then_reports, egress]
    bench.sinks.append(reports)
    bench.run()
    assert len(bench.reports) == 100
    assert not bench.received[Port.SERVER]


@pytest.mark.parametrize("port", [Port.SERVER, Port.RECIRCULATE, Port.CE])
def test_drops_beyond_what_can_be_counted_wait_for_reports(port):
    """Three sources drop six hundred packets, while reports are taken late and then now and then: each is
    reported once.
    """
    rng = random.Random(8)
    block = Forwarding(beat_bytes=16, sources=3, depth=16)
    sent = [
        [(port, 0, frame(source, serial, 16 * 20, port, rng)) for serial in range(200)] for source in range(3)
    ]
    bench = Bench(block, sent)
    report = bench.sinks.pop()

    async def late(ctx):
        await ctx.tick().repeat(600 * 20)
        await report(ctx)

    bench.sinks.append(late)
    bench.run()
    assert len(bench.reports) == 600 and not bench.received[port]


@pytest.mark.parametrize("port", Port)
def test_an_aborted_packet_vanishes_uncounted(port):
    rng = random.Random(8)
    sent = [[(port, 2, frame(0, serial, 30, port, rng)) for serial in range(6)]]
    bench = Bench(Forwarding(beat_bytes=8, sources=1), sent, abort=lambda source, at: at % 2 == 0)
    bench.run()
    assert bench.received[port] == bench.expected(port, 0)[1::2]
    assert bench.counters[port] == 3
    assert len(bench.depths) == (3 if port == Port.RECIRCULATE else 0)
    assert not bench.reports


@pytest.mark.filterwarnings("ignore::amaranth.UnusedElaboratable")
def test_refuses_no_sources():
    with pytest.raises(ValueError, match="sources must be 1 or more, not 0"):
        Forwarding(beat_bytes=8, sources=0)


def test_nothing_leaves_at_the_network_port_without_a_reason():
    """What :mod:`tests.hdl.test_guard` says of the guard, in its place."""
    rng = random.Random(9)
    block = Forwarding(beat_bytes=8, sources=3)
    facts = [
        {"port": Port.NETWORK, "out_of": {"sa": 0x1234, "dfe": 5, "valid": 1}},
        {"port": Port.NETWORK, "protected": 1},
        {"port": Port.SERVER},
    ]
    sent = [
        [(each["port"], 0, frame(source, serial, 40, Port.NETWORK, rng)) for serial in range(3)]
        for source, each in enumerate(facts)
    ]
    bench = Bench(block, sent)
    reports = []

    def egress_of(source):
        async def run(ctx):
            await put(ctx, block.egress[source], [facts[source]] * 3)

        return run

    async def report(ctx):
        while True:
            reports.append(await take(ctx, block.reports))

    bench.sources = [each for source in range(3) for each in (bench.sources[2 * source], egress_of(source))]
    bench.sinks[-1] = report
    bench.run()
    found = bench.by_source(Port.NETWORK)
    assert not found[0] and found[1] == bench.expected(Port.NETWORK, 1)
    assert bench.by_source(Port.SERVER)[2] == bench.expected(Port.SERVER, 2)
    assert [(report.reason, report.dropped, report.dfe, report.sa) for report in reports] == [
        (Reason.GUARD, 1, 5, 0x1234)
    ] * 3
    assert (bench.counters[Port.NETWORK], bench.counters[Port.SERVER]) == (3, 3)


@pytest.mark.parametrize("beat_bytes", BEAT_BYTES)
def test_more_short_packets_than_the_classifier_can_be_told_of(beat_bytes):
    """Those for which there is no item are dropped whole, told, and what is kept has its own item."""
    rng = random.Random(11)
    count = 3 * RECIRCULATING
    sent = [
        [
            (Port.RECIRCULATE, serial % 4, frame(source, serial, 8, Port.RECIRCULATE, rng))
            for serial in range(count)
        ]
        for source in range(2)
    ]
    bench = Bench(Forwarding(beat_bytes=beat_bytes, sources=2), sent, (never, sometimes(3, 0.97)))
    bench.sinks[-1] = bench._report(never)
    bench.run()
    kept = bench.received[Port.RECIRCULATE]
    assert (
        len(bench.reports) + len(kept) == 2 * count and len(bench.reports) > 20 and len(kept) >= RECIRCULATING
    )
    assert bench.counters[Port.RECIRCULATE] == len(kept)
    assert bench.out_of == [out_of(packet) for packet in kept]
    depth_of = {packet: depth for packets in sent for _, depth, packet in packets}
    assert bench.depths == [depth_of[packet] for packet in kept]
