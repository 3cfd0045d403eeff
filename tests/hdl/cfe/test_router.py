import pytest

from spigate.hdl.cfe.router import Router
from spigate.hdl.net.descriptor import FROM_CFE, Port, Reason, Verdict
from spigate.hdl.net.packet import BEAT_BYTES
from tests.hdl.streams import PAUSES, put, put_packets, simulate, take, take_packet

PATIENCE = 40


def info(packet, verdict, *, dfe=FROM_CFE, reason=Reason.NONE, **fields):
    return {"length": len(packet), "verdict": verdict, "dfe": dfe, "reason": reason, "ipv4": 1, "source": 1,
            "destination": 2, **fields}


def packet(at, size=60):
    return bytes([at]) * size


def run(beat_bytes, items, testbench, *, free=(2000, 2000), patience=PATIENCE, background=(), pauses="none"):
    """Feeds ``items`` (packets with their verdicts); ``testbench(ctx, router)`` looks at the rest."""
    router = Router(beat_bytes=beat_bytes, dfes=2)
    source_pause, _ = PAUSES[pauses]()

    async def main(ctx):
        ctx.set(router.patience, patience)
        ctx.set(router.enable, 0b11)
        for at, room in enumerate(free):
            ctx.set(router.dfe_free[at], room)
        await testbench(ctx, router)

    async def send_packets(ctx):
        await ctx.tick().repeat(3)
        await put_packets(ctx, router.i, [one for one, _ in items], source_pause)

    async def send_infos(ctx):
        await ctx.tick().repeat(3)
        await put(ctx, router.info, [verdict for _, verdict in items], source_pause)

    simulate(router, main, background=[send_packets, send_infos, *(one(router) for one in background)])


def always(take_one, find):
    """A background testbench that takes from the stream that ``find(router)`` names, and forgets."""
    def make(router):
        async def testbench(ctx):
            while True:
                await take_one(ctx, find(router))
        return testbench
    return make


DFE_0 = [always(take, lambda router: router.dfe_info[0]), always(take_packet, lambda router: router.dfe[0])]


@pytest.mark.parametrize("beat_bytes", BEAT_BYTES)
def test_a_dfe_that_takes_packets_but_no_descriptors_is_stalled_too(beat_bytes):
    """Its second packet cannot be offered: that one is lost, the next for the other DFE goes on."""
    items = [(packet(at), info(packet(at), Verdict.BYPASS, dfe=dfe)) for at, dfe in enumerate([1, 1, 1, 0])]

    async def testbench(ctx, router):
        assert await take_packet(ctx, router.dfe[1]) == packet(0)
        reports = [await take(ctx, router.reports) for _ in range(3)]
        assert [(report.reason, report.dropped, report.dfe) for report in reports] == [
            (Reason.QUEUE_FULL, 1, FROM_CFE), (Reason.DFE_STALLED, 0, 1), (Reason.QUEUE_FULL, 1, FROM_CFE)]
        assert await take_packet(ctx, router.dfe[0]) == packet(3)
        assert ctx.get(router.healthy) == 0b01
        assert (await take(ctx, router.dfe_info[1])).length == 60

    run(beat_bytes, items, testbench, background=DFE_0[:1])


@pytest.mark.parametrize("patience", [0, 1, 100])
def test_waits_for_patience_and_no_longer(patience):
    items = [(packet(at), info(packet(at), Verdict.DECRYPT, dfe=1, protocol=50, spi=0x1000, sequence=9, sa=3))
             for at in range(3)]

    async def testbench(ctx, router):
        ctx.set(router.reports.ready, 1)
        times, clock = [], 0
        while len(times) < 4:
            _, _, valid, report = await ctx.tick().sample(router.reports.valid, router.reports.payload)
            clock += 1
            if valid:
                times.append((clock, report.reason, report.spi, report.sequence, report.sa))
        assert [reason for _, reason, *_ in times] == [
            Reason.QUEUE_FULL, Reason.DFE_STALLED, Reason.QUEUE_FULL, Reason.QUEUE_FULL]
        assert times[0][2:] == (0x1000, 9, 3) and times[1][2:] == (0, 0, 0)
        assert patience <= times[0][0] <= patience + 20
        # The others do not wait again.
        assert times[3][0] - times[1][0] <= 30

    run(16, items, testbench, free=(2000, 0), patience=patience)


@pytest.mark.parametrize("beat_bytes", BEAT_BYTES)
def test_room_that_comes_in_time(beat_bytes):
    items = [(packet(1, 400), info(packet(1, 400), Verdict.ENCRYPT, dfe=0))]

    async def testbench(ctx, router):
        await ctx.tick().repeat(30)
        assert not ctx.get(router.dfe_info[0].valid) and not ctx.get(router.dfe[0].valid)
        ctx.set(router.dfe_free[0], 400 // beat_bytes)
        assert await take_packet(ctx, router.dfe[0]) == packet(1, 400)
        assert (await take(ctx, router.dfe_info[0])).verdict == Verdict.ENCRYPT
        assert ctx.get(router.healthy) == 0b11

    run(beat_bytes, items, testbench, free=(400 // beat_bytes - 1, 0), patience=60)


@pytest.mark.parametrize("beat_bytes", BEAT_BYTES)
@pytest.mark.parametrize("pauses", PAUSES)
def test_direct_ones_keep_their_order_and_their_time(beat_bytes, pauses):
    """Punts and injected frames in turn, with dropped ones between; the header's time does not change while it
    waits."""
    items = []
    for at in range(24):
        verdict = (Verdict.PUNT, Verdict.DIRECT, Verdict.DROP)[at % 3]
        one, reason = packet(at, 1 + at * 5), Reason.POLICY if at % 3 else Reason.IKE
        items.append((one, info(one, verdict, reason=reason, depth=at % 4, ingress=at % 2,
                                route={"egress": Port.SERVER})))
    _, pause = PAUSES[pauses]()

    async def testbench(ctx, router):
        for at in range(24):
            if at % 3 == 2:
                continue
            got = await take_packet(ctx, router.direct, pause)
            egress = await take(ctx, router.direct_egress, pause)
            assert egress.depth == at % 4 and egress.port == (Port.SERVER if at % 3 else Port.CE)
            if at % 3 == 0:
                assert got[1:4] == bytes([Reason.IKE, at % 2, FROM_CFE]) and got[6] == at % 4
                stamps.append(int.from_bytes(got[8:12], "little"))
                got = got[16:]
            assert got == packet(at, 1 + at * 5)
        assert stamps == sorted(set(stamps))

    stamps = []

    def ticking(router):
        async def count(ctx):
            now = 0
            while True:
                # Both halves change, so that a stamp taken in parts would show.
                ctx.set(router.time, now * 0x10001)
                await ctx.tick()
                now += 1
        return count

    run(beat_bytes, items, testbench, pauses=pauses, background=[ticking, always(take, lambda router: router.reports)])
    assert all(stamp % 0x10001 == 0 for stamp in stamps)
