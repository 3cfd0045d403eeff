# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

import pytest

from spigate.hdl.cfe.router import Router
from spigate.hdl.contract.enums import Port, Reason
from spigate.hdl.net.descriptor import FROM_CFE, Verdict
from spigate.hdl.net.packet import BEAT_BYTES
from tests.hdl.streams import PAUSES, put, put_packets, simulate, take, take_packet


def info(packet, verdict, *, dfe=FROM_CFE, reason=Reason.NONE, **fields):
    return {
        "length": len(packet),
        "verdict": verdict,
        "dfe": dfe,
        "reason": reason,
        "ipv4": 1,
        "source": 1,
        "destination": 2,
        **fields,
    }


def packet(at, size=60):
    return bytes([at]) * size


def run(beat_bytes, items, testbench, *, free=(2000, 2000), background=(), pauses="none"):
    """Feeds ``items`` (packets with their verdicts); ``testbench(ctx, router)`` looks at the rest."""
    router = Router(beat_bytes=beat_bytes, dfes=2)
    source_pause, _ = PAUSES[pauses]()

    async def main(ctx):
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
def test_a_dfe_that_takes_no_descriptor_gets_no_second_packet(beat_bytes):
    """Its second packet cannot be offered: it is lost at once, and so is the third; what is for the other
    DFE goes on.
    """
    items = [(packet(at), info(packet(at), Verdict.BYPASS, dfe=dfe)) for at, dfe in enumerate([1, 1, 1, 0])]

    async def testbench(ctx, router):
        assert await take_packet(ctx, router.dfe[1]) == packet(0)
        reports = [await take(ctx, router.reports) for _ in range(2)]
        assert [(report.reason, report.dropped, report.dfe) for report in reports] == [
            (Reason.QUEUE_FULL, 1, FROM_CFE)
        ] * 2
        assert await take_packet(ctx, router.dfe[0]) == packet(3)
        assert (await take(ctx, router.dfe_info[1])).length == 60

    run(beat_bytes, items, testbench, background=DFE_0[:1])


@pytest.mark.parametrize("beat_bytes", BEAT_BYTES)
@pytest.mark.parametrize("dfe", [1, 2, FROM_CFE])
def test_waits_for_no_dfe(beat_bytes, dfe):
    """Packets for a DFE that is dead for good, or absent, take no longer than those that are dropped for
    their verdict; each is reported.
    """

    def items(verdict):
        return [
            (
                packet(at),
                info(
                    packet(at),
                    verdict,
                    dfe=dfe,
                    protocol=50,
                    spi=0x1000,
                    sequence=9,
                    sa=3,
                    reason=Reason.POLICY,
                ),
            )
            for at in range(12)
        ]

    def clocks(verdict, reason):
        async def testbench(ctx, router):
            ctx.set(router.reports.ready, 1)
            found, clock = [], 0
            while len(found) < 12:
                _, _, valid, report = await ctx.tick().sample(router.reports.valid, router.reports.payload)
                clock += 1
                if valid:
                    found.append((report.reason, report.dropped, report.spi, report.sequence, report.sa))
            assert found == [(reason, 1, 0x1000, 9, 3)] * 12
            spent.append(clock)

        spent = []
        run(beat_bytes, items(verdict), testbench, free=(2000, 0))
        return spent[0]

    assert clocks(Verdict.DECRYPT, Reason.QUEUE_FULL) <= clocks(Verdict.DROP, Reason.POLICY) + 12 * 4


@pytest.mark.parametrize("beat_bytes", BEAT_BYTES)
@pytest.mark.parametrize("pauses", PAUSES)
def test_room_is_for_whole_packets(beat_bytes, pauses):
    """What fits is sent, what is a beat longer is not, and the next one that fits is."""
    room = 400 // beat_bytes
    sizes = [400, 401, 400, 1000, 1]
    items = [
        (packet(at, size), info(packet(at, size), Verdict.ENCRYPT, dfe=0)) for at, size in enumerate(sizes)
    ]
    got = []

    async def testbench(ctx, router):
        for at in (0, 2, 4):
            got.append(await take_packet(ctx, router.dfe[0]))
            assert got[-1] == packet(at, sizes[at])

    dropped = always(take, lambda router: router.reports)
    run(beat_bytes, items, testbench, free=(room, 0), pauses=pauses, background=[DFE_0[0], dropped])


@pytest.mark.parametrize("beat_bytes", BEAT_BYTES)
@pytest.mark.parametrize("pauses", PAUSES)
def test_direct_ones_keep_their_order_and_their_time(beat_bytes, pauses):
    """Punts and injected frames in turn, with dropped ones between; the header's time does not change while
    it waits."""
    items = []
    for at in range(24):
        verdict = (Verdict.PUNT, Verdict.DIRECT, Verdict.DROP)[at % 3]
        one, reason = packet(at, 1 + at * 5), Reason.POLICY if at % 3 else Reason.IKE
        items.append(
            (
                one,
                info(
                    one, verdict, reason=reason, depth=at % 4, ingress=at % 2, route={"egress": Port.SERVER}
                ),
            )
        )
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

    run(
        beat_bytes,
        items,
        testbench,
        pauses=pauses,
        background=[ticking, always(take, lambda router: router.reports)],
    )
    assert all(stamp % 0x10001 == 0 for stamp in stamps)
