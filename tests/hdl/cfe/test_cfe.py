# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

import random
from collections import Counter

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import ICMPv6ND_NS, IPv6
from scapy.layers.ipsec import AH, ESP
from scapy.layers.l2 import ARP, Dot1Q, Ether

from spigate.hdl.contract.constants import FROM_CFE, MAX_FRAME
from spigate.hdl.contract.enums import Action, Balance, Port, Reason
from spigate.hdl.net.descriptor import Verdict
from spigate.hdl.net.packet import BEAT_BYTES
from tests.hdl.cfe.bench import Run, from_bytes
from tests.hdl.streams import PAUSES

pytestmark = pytest.mark.slow

ETHER = Ether(dst="02:00:00:00:00:01", src="02:00:00:00:00:02")
HERE, PEER = 0xC0000201, 0xC6336407
ANY = {
    "source_port_high": 65535,
    "destination_port_high": 65535,
    "any_protocol": 1,
    "ingress": 0b1011,
    "valid": 1,
}


def frame(*layers, tag=None):
    packet = ETHER / Dot1Q(vlan=tag) if tag else ETHER
    for layer in layers:
        packet = packet / layer
    return bytes(packet)


def esp(spi, *, seq=1, size=30, dst="192.0.2.1", tag=None, **fields):
    return frame(IP(src="198.51.100.7", dst=dst, **fields), ESP(spi=spi, seq=seq, data=bytes(size)), tag=tag)


def udp(*, src="10.0.0.1", dst="10.1.0.1", sport=1000, dport=2000, size=20, tag=None):
    return frame(IP(src=src, dst=dst), UDP(sport=sport, dport=dport), bytes(size), tag=tag)


def sa(spi, *, dfe=0, number=7, route=1, destination=HERE):
    return {"destination": destination, "spi": spi, "dfe": dfe, "sa": number, "route": route}


def rule(action, **fields):
    return {**ANY, "action": action, "route": 1, **fields}


@pytest.mark.parametrize("beat_bytes", BEAT_BYTES)
@pytest.mark.parametrize("pauses", PAUSES)
def test_every_verdict(beat_bytes, pauses):
    """Something of everything into all four ports at once; each frame's fate, and the books balance."""
    known = [esp(0x1000 + at % 2, seq=at, size=at * 7, tag=at % 3 and 9) for at in range(8)]
    unknown = [esp(0x2000 + at, dst="192.0.2.9") for at in range(4)]
    protect = [udp(dst="10.1.0.1", size=at * 9) for at in range(4)]
    bypass = [udp(dst="10.2.0.1", size=at * 5) for at in range(6)]
    discard, punt, none = [udp(dst="10.3.0.1")] * 2, [udp(dst="10.4.0.1", tag=5)], [udp(dst="10.5.0.1")] * 3
    arp, ike, ipv6 = frame(ARP()), udp(dst="192.0.2.1", dport=500), frame(IPv6(), ICMP())
    natt, ah = udp(dst="192.0.2.1", dport=4500, size=0), frame(IP(src="10.0.0.1", dst="10.1.0.1"), AH())
    run = Run(
        beat_bytes=beat_bytes,
        pauses=pauses,
        strict=pauses in ("sink", "both"),
        own=[HERE],
        cam=[sa(0x1000, dfe=0, number=7), sa(0x1001, dfe=1, number=300, route=2)],
        routes={
            1: {"valid": 1, "egress": Port.SERVER, "destination_mac": 0x020304050607},
            2: {
                "valid": 1,
                "egress": Port.NETWORK,
                "vlan_tci": 0x123,
                "tagged": 1,
                "rewrite": 1,
                "source_mac": 0xA0B0C0D0E0F,
            },
        },
        rules=[
            rule(
                action, destination=0x0A000000 | at << 16, destination_mask=0xFFFF0000, dfe=1, sa=12, route=2
            )
            for at, action in enumerate([Action.PROTECT, Action.BYPASS, Action.DISCARD, Action.PUNT], 1)
        ],
    )
    run.network(*known, *unknown, arp, b"short", esp(5), esp(0x1000, size=0, chksum=7))
    run.server(*protect, *bypass, *discard, *punt, *none, ike, ipv6, bytes(MAX_FRAME), natt, ah)
    run.inject(known[0], udp(dst="10.2.0.9"), port=Port.NETWORK).inject(b"0123456789", mode=0)
    run.inject(b"as it is" * 20, mode=1, port=Port.SERVER).inject(arp, mode=1)
    run.recirculate(known[1], depth=2).recirculate(known[0], depth=3).recirculate(bypass[1])
    run.aborted = {(Port.NETWORK, 3), (Port.SERVER, 0)}
    run.run()

    decrypted = run.verdicts(Verdict.DECRYPT)
    assert Counter(out.frame for out in decrypted) == Counter([*known[:3], *known[4:], known[0], known[1]])
    for out in decrypted:
        info = out.info
        assert (info.dfe, info.sa, info.spi) == ((0, 7, 0x1000) if out.dfe == 0 else (1, 300, 0x1001))
        assert info.dfe == out.dfe and info.ipv4 and info.destination == HERE and info.protocol == 50
        if out.dfe == 1:
            assert (info.route.egress, info.route.vlan_tci) == (Port.NETWORK, 0x123)
            assert info.route.source_mac == 0xA0B0C0D0E0F
        else:
            assert (info.route.egress, info.route.destination_mac) == (Port.SERVER, 0x020304050607)
    encrypted = run.verdicts(Verdict.ENCRYPT)
    assert [out.frame for out in encrypted] == protect[1:]
    assert all(
        (out.dfe, out.info.dfe, out.info.sa, out.info.ingress) == (1, 1, 12, Port.SERVER) for out in encrypted
    )
    bypassed = run.verdicts(Verdict.BYPASS)
    assert Counter(out.frame for out in bypassed) == Counter([*bypass, udp(dst="10.2.0.9"), bypass[1]])
    assert {out.info.injected for out in bypassed} == {0, 1} and {out.info.depth for out in bypassed} == {
        0,
        1,
    }
    assert all(out.info.dfe == out.dfe for out in run.to_dfe)
    assert run.punted == {
        Reason.NOT_IP: 1,
        Reason.RULE: 1,
        Reason.IKE: 1,
        Reason.IPV6: 1,
        Reason.NATT: 1,
        Reason.AH: 1,
        Reason.UNKNOWN_SPI: 4,
        Reason.NO_RULE: 3,
    }
    misses = [out for out in run.direct if out.info.get("reason") == Reason.UNKNOWN_SPI]
    assert [out.frame for out in misses] == unknown
    assert {out.info["dfe"] for out in misses} <= {0, 1}  # The DFE that the SA should live in.
    by_reason = {out.info["reason"]: out for out in run.direct if out.info["port"] == Port.CE}
    assert by_reason[Reason.RULE].frame == punt[0]
    assert (
        by_reason[Reason.RULE].info["tagged"] == 1 and by_reason[Reason.RULE].info["ingress"] == Port.SERVER
    )
    assert (
        by_reason[Reason.NOT_IP].info["ingress"] == Port.NETWORK
        and by_reason[Reason.NOT_IP].info["dfe"] == FROM_CFE
    )
    assert by_reason[Reason.NOT_IP].info["time"] > 1000
    out_as_is = {out.info["port"]: out.frame for out in run.direct if out.info["port"] != Port.CE}
    assert out_as_is == {Port.SERVER: b"as it is" * 20, Port.NETWORK: arp}
    assert run.dropped == {
        Reason.MALFORMED: 3,
        Reason.RESERVED_SPI: 1,
        Reason.POLICY: 2,
        Reason.OVERSIZE: 1,
        Reason.BAD_FRAME: 2,
        Reason.NESTED: 1,
    }
    counters = run.counters
    assert [counters[f"{name}_in"] for name in ("network", "server", "inject", "recirculate")] == [
        len(frames) for frames in run.frames.values()
    ]
    assert counters["punts"] == 13 and counters["misses"] == 7
    assert counters["clear"] == len(encrypted) + len(bypassed) + 2 + 1
    assert counters["hits"] == len(decrypted) + 1
    assert run.healthy == 0b11


def test_what_a_table_says_of_the_sa_goes_with_the_packet():
    """Generation of entry and rule, index of the rule, whether it may leave in the clear, and which SA it
    came out of.
    """
    out_of = {"sa": 0x1234, "dfe": 5, "valid": 1, "generation": 0xA5}
    rules = [
        rule(Action.PUNT, destination=0x0A040000, destination_mask=0xFFFF0000),
        rule(
            Action.PROTECT, destination=0x0A010000, destination_mask=0xFFFF0000, dfe=1, sa=12, generation=201
        ),
        rule(Action.BYPASS, destination=0x0A020000, destination_mask=0xFFFF0000, clear=1),
        rule(Action.BYPASS, destination=0x0A030000, destination_mask=0xFFFF0000),
    ]
    run = Run(cam=[{**sa(0x1000), "generation": 99}], rules=rules, control={"depth_limit": 3})
    run.recirculate(esp(0x1000), udp(dst="10.1.0.1"), udp(dst="10.2.0.1"), udp(dst="10.3.0.1"), out_of=out_of)
    run.recirculate(udp(dst="10.4.0.1"), udp(dst="10.5.0.1"), out_of=out_of).server(udp(dst="10.4.0.1"))
    run.inject(udp(dst="10.4.0.1"), port=Port.RECIRCULATE, depth=1, out_of=out_of).inject(
        frame(ARP()), mode=1, port=Port.NETWORK
    )
    run.run()
    found = {
        out.info.verdict if out.info.verdict != Verdict.BYPASS else (Verdict.BYPASS, out.info.clear): out.info
        for out in run.to_dfe
    }
    assert (
        found[Verdict.DECRYPT].generation == 99
        and not found[Verdict.DECRYPT].ruled
        and not found[Verdict.DECRYPT].clear
    )
    assert (found[Verdict.ENCRYPT].generation, found[Verdict.ENCRYPT].ruled, found[Verdict.ENCRYPT].rule) == (
        201,
        1,
        1,
    )
    assert {key: found[Verdict.BYPASS, key].rule for key in (0, 1)} == {0: 3, 1: 2}
    assert all({name: getattr(info.out_of, name) for name in out_of} == out_of for info in found.values())
    came = from_bytes(out_of)
    punts = Counter(
        (Reason(out.info["reason"]), Port(out.info["ingress"]), out.info["rule"], out.info["from"])
        for out in run.direct
        if out.info["port"] == Port.CE
    )
    assert punts == {
        (Reason.RULE, Port.RECIRCULATE, 0, came): 2,
        (Reason.NO_RULE, Port.RECIRCULATE, None, came): 1,
        (Reason.RULE, Port.SERVER, 0, bytes(4)): 1,
    }
    (direct,) = [out.info for out in run.direct if out.info["port"] != Port.CE]
    assert (direct["port"], direct["injected"], direct["protected"], direct["bypassed"]) == (
        Port.NETWORK,
        1,
        0,
        0,
    )
    assert not any(out.info["injected"] for out in run.direct if out.info["port"] == Port.CE)


def test_reports_name_the_packet():
    run = Run(control={"miss_drop": 1}).network(esp(0x4321, seq=77), esp(9, seq=3), b"x").run()
    found = {Reason(report.reason): report for report in run.reports}
    assert set(found) == {Reason.NO_SA, Reason.RESERVED_SPI, Reason.MALFORMED}
    report = found[Reason.NO_SA]
    assert (report.spi, report.sequence, report.source, report.destination) == (0x4321, 77, PEER, HERE)
    assert (report.dropped, report.dfe, report.ingress) == (1, FROM_CFE, Port.NETWORK)
    assert (found[Reason.MALFORMED].spi, found[Reason.MALFORMED].source) == (0, 0)


@pytest.mark.parametrize(
    "settings, dropped, punted",
    [
        ({"miss_drop": 1}, {Reason.NO_SA: 3}, {Reason.NO_RULE: 4}),
        ({"rule_miss": Action.DISCARD}, {Reason.POLICY: 4}, {Reason.UNKNOWN_SPI: 3}),
        ({"rule_miss": Action.BYPASS}, {}, {Reason.UNKNOWN_SPI: 3, Reason.NO_RULE: 4}),
        ({"rule_miss": Action.PROTECT}, {}, {Reason.UNKNOWN_SPI: 3, Reason.NO_RULE: 4}),
        ({"enable": 0}, {Reason.NO_DFE: 7}, {}),
        ({"miss_interval": 10000}, {Reason.SPI_RATE: 2}, {Reason.UNKNOWN_SPI: 1, Reason.NO_RULE: 4}),
    ],
)
def test_misses(settings, dropped, punted):
    run = Run(control=settings).network(*[esp(0x1000)] * 3).server(*[udp()] * 4).run()
    assert (run.dropped, run.punted, run.to_dfe) == (dropped, punted, [])


@pytest.mark.parametrize("pauses", PAUSES)
def test_misses_come_up_in_order(pauses):
    """Whatever DFEs the balancer names for them, and however long the frames are."""
    sent = [esp(0x1000 + at % 3, seq=at, size=700 if at % 4 == 0 else at) for at in range(24)]
    run = Run(dfes=4, pauses=pauses, control={"balance": 0, "enable": 15}).network(*sent).run()
    assert [out.frame for out in run.direct] == sent
    assert {out.info["dfe"] for out in run.direct} == {0, 1, 2, 3}


def test_a_stalled_dfe_keeps_no_miss_from_coming_up():
    run = Run(free={0: 0, 1: 0}).network(*[esp(0x1000 + at) for at in range(20)]).run()
    assert run.punted == {Reason.UNKNOWN_SPI: 20} and run.healthy == 0b11


def test_unknown_spis_for_which_there_is_no_room():
    """They go nowhere; others come up as before."""
    run = Run(spi_open=0, own=[HERE]).network(*[esp(0x1000 + at) for at in range(20)])
    run.server(*[udp(dst="192.0.2.1", dport=500)] * 5, *[udp()] * 5).run()
    assert run.dropped == {Reason.SPI_RATE: 20} and run.punted == {Reason.IKE: 5, Reason.NO_RULE: 5}


OURS_6, OTHER_6 = "2001:db8::1", "2001:db8::2"


@pytest.mark.parametrize("beat_bytes", BEAT_BYTES)
@pytest.mark.parametrize("pauses", ["none", "both"])
def test_ike_is_what_comes_to_an_own_address(beat_bytes, pauses):
    """From port 500, or to another address, it is traffic that rules decide on; one after the other, in
    every order.
    """
    own, marked = "192.0.2.1", UDP(sport=7, dport=4500) / (bytes(4) + b"x" * 20)
    cases = [
        (udp(dst=own, sport=7, dport=500), Reason.IKE),
        (frame(IP(src="10.0.0.1", dst=own), marked), Reason.IKE),
        (udp(dst=own, dport=4500, size=1), Reason.NATT),
        (udp(dst=own, sport=500, dport=53), Reason.RULE),
        (udp(dst="10.9.0.1", sport=500, dport=500), Reason.RULE),
        (frame(IP(src="10.0.0.1", dst="10.9.0.1"), marked), Reason.RULE),
        (udp(dst="10.9.0.1", dport=4500, size=1), Reason.RULE),
        (udp(dst="192.0.2.2", dport=500), Reason.RULE),
        (udp(dst="10.8.0.1", dport=500), Reason.NO_RULE),
        (frame(IP(dst=own, flags="MF"), UDP(dport=500), bytes(40)), Reason.FRAGMENT),
        (frame(IPv6(dst=OURS_6), UDP(dport=500), bytes(28)), Reason.IKE),
        (frame(IPv6(dst=OURS_6), UDP(dport=4500), bytes(28), tag=7), Reason.IKE),
        (frame(IPv6(dst=OTHER_6), UDP(dport=500), bytes(28)), Reason.IPV6),
        (frame(IPv6(dst=OURS_6), UDP(sport=500, dport=53), bytes(28)), Reason.IPV6),
        (frame(IPv6(dst=OURS_6), UDP(dport=4500), b"x" * 28), Reason.IPV6),
        (frame(IPv6(dst="ff02::1", hlim=255), ICMPv6ND_NS(tgt=OURS_6)), Reason.NEIGHBOUR),
        (esp(0x1000), None),
        (esp(0x5000), Reason.UNKNOWN_SPI),
        (frame(ARP()), Reason.NOT_IP),
    ]
    order = random.Random(7).choices(cases, k=150)
    run = Run(
        beat_bytes=beat_bytes,
        pauses=pauses,
        cam=[sa(0x1000)],
        own=[HERE, (1, True)],
        rules=[
            rule(Action.PUNT, destination=0x0A090000, destination_mask=0xFFFF0000),
            rule(Action.PUNT, destination=HERE & ~3, destination_mask=0xFFFFFFFC),
        ],
    )
    run.network(*[sent for sent, _ in order]).run()
    assert [(out.frame, out.info["reason"]) for out in run.direct] == [
        each for each in order if each[1] is not None
    ]
    assert not run.dropped and len(run.verdicts(Verdict.DECRYPT)) == sum(
        reason is None for _, reason in order
    )


@pytest.mark.parametrize("dfe", [1, 2, 15])
def test_entry_of_a_dfe_that_is_disabled_or_absent(dfe):
    run = Run(
        control={"enable": 1},
        cam=[sa(0x1000, dfe=dfe, number=99)],
        rules=[rule(Action.PROTECT, dfe=dfe, sa=99)],
    )
    run.network(esp(0x1000)).server(udp()).run()
    assert run.punted == {Reason.DFE_DOWN: 2}
    assert all((out.info["dfe"], out.info["sa"]) == (dfe, 99) for out in run.direct)


def test_entry_without_a_route_is_a_miss():
    run = Run(
        cam=[sa(0x1000, route=5)],
        rules=[rule(Action.BYPASS, route=5, ingress=2), rule(Action.PUNT, route=5, ingress=1)],
    )
    run.network(esp(0x1000), udp()).server(udp()).run()
    assert run.punted == {Reason.RULE: 1, Reason.UNKNOWN_SPI: 1, Reason.NO_RULE: 1} and not run.to_dfe


@pytest.mark.parametrize("limit", range(4))
def test_depth(limit):
    """Decrypted up to the limit; and never sent to be recirculated again where the count would overflow."""
    run = Run(
        control={"depth_limit": limit},
        cam=[sa(0x1000), sa(0x2000, route=2)],
        rules=[rule(Action.BYPASS, route=2)],
        routes={1: {"valid": 1, "egress": Port.SERVER}, 2: {"valid": 1, "egress": Port.RECIRCULATE}},
    )
    for depth in range(4):
        run.recirculate(esp(0x1000, seq=depth), esp(0x2000, seq=depth), udp(), depth=depth)
    run.run()
    decrypted = [(out.info.spi, out.info.sequence) for out in run.verdicts(Verdict.DECRYPT)]
    assert decrypted == [
        (spi, depth) for depth in range(limit + 1) for spi in (0x1000, 0x2000) if depth < 3 or spi == 0x1000
    ]
    assert len(run.verdicts(Verdict.BYPASS)) == 3
    assert run.dropped[Reason.NESTED] == 12 - len(run.to_dfe)


@pytest.mark.parametrize("balance", Balance)
def test_balance(balance):
    weights = [1, 2, 3] + [0] * 5
    run = Run(
        dfes=3,
        control={"balance": balance, "weights": weights},
        rules=[rule(Action.BYPASS)],
        free={0: 100, 1: 2000, 2: 100},
    )
    flows = [udp(sport=1000 + at, src=f"10.0.{at % 7}.1") for at in range(30)]
    run.server(*flows, *flows).run()
    shares = Counter(out.dfe for out in run.to_dfe)
    if balance == Balance.ROUND_ROBIN:
        assert shares == {0: 20, 1: 20, 2: 20}
    elif balance == Balance.WEIGHTED:
        assert shares == {0: 10, 1: 20, 2: 30}
    elif balance == Balance.LEAST_LOADED:
        assert shares == {1: 60}
    else:
        assert min(shares.values()) >= 8 and len(shares) == 3
        where = {}
        for out in run.to_dfe:
            where.setdefault(out.frame, set()).add(out.dfe)
        assert all(len(dfes) == 1 for dfes in where.values())


def test_a_dead_dfe_does_not_stop_the_others():
    """DFE 1 never has room: its packets are lost at once until its patience is over, and then its entries
    are punted.
    """
    run = Run(
        free={1: 0},
        busy={1},
        control={"patience": 300},
        cam=[sa(0x1000, dfe=0), sa(0x1001, dfe=1)],
        rules=[rule(Action.BYPASS)],
    )
    run.network(*[esp(0x1000 + at % 2) for at in range(80)]).server(*[udp()] * 40, frame(ARP())).run()
    assert run.healthy == 0b01
    assert (
        len(run.verdicts(Verdict.BYPASS)) + run.dropped[Reason.QUEUE_FULL] + run.punted[Reason.DFE_DOWN] == 80
    )
    assert len(run.verdicts(Verdict.DECRYPT)) == 40 and run.punted[Reason.NOT_IP] == 1
    assert run.dropped[Reason.QUEUE_FULL] and run.punted[Reason.DFE_DOWN] >= 15
    told = [report for report in run.reports if not report.dropped]
    assert [(report.reason, report.dfe) for report in told] == [(Reason.DFE_STALLED, 1)]
    assert run.clocks < 121 * 20


def test_a_full_dfe_is_not_a_dead_one():
    """DFE 1 has no room, but finishes a packet now and then: nothing is punted, nothing told, and others do
    not wait.
    """
    run = Run(free={1: 0}, busy={1}, control={"patience": 100}, cam=[sa(0x1000, dfe=0), sa(0x1001, dfe=1)])
    run.network(*[esp(0x1000 + at % 2) for at in range(80)])

    async def slow(ctx):
        while run.accounted() < 80:
            await ctx.tick().repeat(80)
            ctx.set(run.cfe.dfe_gone, 0b10)
            await ctx.tick()
            ctx.set(run.cfe.dfe_gone, 0)

    run.run(script=slow)
    assert run.healthy == 0b11 and not run.direct
    assert len(run.verdicts(Verdict.DECRYPT)) == 40 and run.dropped == {Reason.QUEUE_FULL: 40}
    assert run.clocks < 80 * 20


@pytest.mark.parametrize("beat_bytes", BEAT_BYTES)
def test_a_packet_starts_only_when_all_of_it_fits(beat_bytes):
    """Room for exactly the packet, and for a beat less."""
    packet = esp(0x1000, size=400)
    beats = -(-(len(packet) + 2) // beat_bytes)
    for free, fits in ((beats, True), (beats - 1, False)):
        run = Run(beat_bytes=beat_bytes, free={0: free}, control={"patience": 30}, cam=[sa(0x1000)])
        run.network(packet).run()
        assert len(run.to_dfe) == fits and run.dropped == ({} if fits else {Reason.QUEUE_FULL: 1})


@pytest.mark.parametrize(
    "beat_bytes, kind, limit", [(16, "esp", 12), (16, "clear", 12), (16, "miss", 16), (8, "esp", 16)]
)
def test_clocks_a_short_frame(beat_bytes, kind, limit):
    count = 60
    packet = udp(size=22) if kind == "clear" else esp(0x1000 if kind == "esp" else 0x2000, size=22)
    assert len(packet) == 64
    run = Run(beat_bytes=beat_bytes, cam=[sa(0x1000)], rules=[rule(Action.BYPASS)])
    run.network(*[packet] * count).server(*[packet] * count).run()
    assert len(run.to_dfe) + len(run.direct) == 2 * count
    print(f"{beat_bytes} bytes a beat, {kind}: {run.clocks / (2 * count):.1f} clocks a 64-byte frame")
    assert run.clocks / (2 * count) <= limit
