import random

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_NOP, IPOption_Timestamp
from scapy.layers.inet6 import IPv6
from scapy.layers.ipsec import AH, ESP
from scapy.layers.l2 import ARP, Dot1AD, Dot1Q, Ether
from scapy.packet import Raw
from scapy.utils import checksum

from spigate.hdl.cfe.parser import Parser
from spigate.hdl.net.descriptor import Port, Reason, Verdict
from spigate.hdl.net.packet import BEAT_BYTES, MAX_FRAME
from tests.hdl.cfe.frames import classify
from tests.hdl.streams import PAUSES, beats, put, put_packets, simulate, take

ETHER = Ether(dst="02:00:00:00:00:01", src="02:00:00:00:00:02")
ADDRESSES = {"src": "192.0.2.1", "dst": "198.51.100.7"}
TEXT = Raw(bytes(range(1, 40)))


def ip(**fields):
    return IP(**ADDRESSES, **fields)


def options(words):
    return [IPOption_NOP()] * (4 * words)


PACKETS = {
    "esp": (ip() / ESP(spi=0x12345678, seq=9, data=b"x" * 30), None),
    "esp, options": (ip(options=options(3), ttl=7, tos=0x2e) / ESP(spi=256, seq=1, data=b"x" * 30), None),
    "esp, all options": (ip(options=options(10)) / ESP(spi=0xffffffff, seq=0xfffffffe, data=b"x"), None),
    "esp, other option": (ip(options=IPOption_Timestamp()) / ESP(spi=0x1000, seq=1, data=b"x"), None),
    "esp, nothing behind": (ip() / ESP(spi=0x1000, seq=1), None),
    "esp, half a header": (ip(proto=50) / Raw(b"1234567"), Reason.MALFORMED),
    "esp 255": (ip() / ESP(spi=255, seq=1, data=b"x" * 9), Reason.RESERVED_SPI),
    "esp 0": (ip() / ESP(spi=0, seq=1, data=b"x" * 9), Reason.RESERVED_SPI),
    "udp": (ip(flags="DF") / UDP(sport=1234, dport=53) / TEXT, None),
    "tcp": (ip(options=options(1)) / TCP(sport=50000, dport=443) / TEXT, None),
    "tcp, no ports": (ip(proto=6) / Raw(b"abc"), Reason.MALFORMED),
    "tcp, ports only": (ip(proto=6) / Raw(b"abcd"), None),
    "udp, no ports": (ip(proto=17) / Raw(b"abc"), Reason.MALFORMED),
    "icmp": (ip() / ICMP(), None),
    "nothing": (ip(proto=59), None),
    "icmp, one byte": (ip(proto=1) / Raw(b"a"), None),
    "ike": (ip() / UDP(sport=500, dport=500) / TEXT, Reason.IKE),
    "ike from 500": (ip() / UDP(sport=500, dport=1000) / TEXT, Reason.IKE),
    "ike to 500": (ip(options=options(2)) / UDP(sport=1000, dport=500) / TEXT, Reason.IKE),
    "tcp 500": (ip() / TCP(sport=500, dport=500), None),
    "ike, marker": (ip() / UDP(sport=4500, dport=4500) / Raw(bytes(4) + b"x"), Reason.IKE),
    "ike, marker, options": (ip(options=options(9)) / UDP(sport=1, dport=4500) / Raw(bytes(4)), Reason.IKE),
    "nat-t": (ip() / UDP(sport=4500, dport=4500) / Raw(b"\0\0\1\0" + bytes(20)), Reason.NATT),
    "nat-t, options": (ip(options=options(10)) / UDP(sport=4500, dport=4500) / Raw(b"\0\0\0\1" + bytes(20)), Reason.NATT),
    "nat-t keep-alive": (ip() / UDP(sport=4500, dport=4500) / Raw(b"\xff"), Reason.NATT),
    "nat-t, three zeros": (ip() / UDP(sport=4500, dport=4500) / Raw(bytes(3)), Reason.NATT),
    "from 4500": (ip() / UDP(sport=4500, dport=4501) / TEXT, None),
    "ah": (ip() / AH(spi=0x1000, seq=1), Reason.AH),
    "first fragment": (ip(flags="MF") / UDP(dport=500) / TEXT, Reason.FRAGMENT),
    "later fragment": (ip(frag=1, proto=50) / TEXT, Reason.FRAGMENT),
    "last place": (ip(frag=0x1fff, proto=51) / TEXT, Reason.FRAGMENT),
    "version": (ip(version=5) / UDP() / TEXT, Reason.MALFORMED),
    "header too short": (ip(ihl=4) / UDP() / TEXT, Reason.MALFORMED),
    "header longer than packet": (ip(ihl=15, len=59) / UDP() / TEXT, Reason.MALFORMED),
    "checksum": (ip(chksum=0x1234) / UDP() / TEXT, Reason.MALFORMED),
    "longer than frame": (ip(len=1000) / UDP() / TEXT, Reason.MALFORMED),
    "length 0": (ip(len=0) / UDP() / TEXT, Reason.MALFORMED),
    "length 19": (ip(len=19) / UDP() / TEXT, Reason.MALFORMED),
    "length 65535": (ip(len=65535) / UDP() / TEXT, Reason.MALFORMED),
    "padded": (ip(len=28, proto=17) / Raw(b"\0\1\0\2\0\x08\0\0") / Raw(bytes(18)), None),
}
OTHERS = {
    "arp": (ETHER / ARP(), Reason.NOT_IP),
    "ipv6": (ETHER / IPv6() / UDP(dport=500), Reason.IPV6),
    "ipv6, tagged": (ETHER / Dot1Q(vlan=5) / IPv6() / UDP(), Reason.IPV6),
    "arp, tagged": (ETHER / Dot1Q(vlan=5) / ARP(), Reason.NOT_IP),
    "two tags": (ETHER / Dot1Q(vlan=5) / Dot1Q(vlan=6) / ip() / UDP(), Reason.NOT_IP),
    "service tag": (ETHER / Dot1AD(vlan=5) / ip() / UDP(), Reason.NOT_IP),
    "802.3": (ETHER.copy() / Raw(b"\xaa\xaa\x03" + bytes(40)), None),
}
OTHERS["802.3"][0][Ether].type = 43
OTHERS["802.3"] = (OTHERS["802.3"][0], Reason.NOT_IP)


def frames():
    """All frames, tagged and untagged, with the reason expected (None: tables decide)."""
    for name, (packet, reason) in PACKETS.items():
        yield name, bytes(ETHER / packet), reason
        yield f"{name}, tagged", bytes(ETHER / Dot1Q(vlan=0x123, prio=3) / packet), reason
    for name, (packet, reason) in OTHERS.items():
        yield name, bytes(packet), reason


def check(frame, parsed, name=""):
    verdict, reason, facts = classify(frame)
    info = parsed.info
    got = (Verdict(info.verdict), Reason(info.reason)) if parsed.decided else (None, Reason.NONE)
    assert got == (verdict, reason), (name, frame.hex())
    ports = facts.pop("ports", None)
    if verdict is None:
        assert parsed.ports == (ports is not None), (name, frame.hex())
    if parsed.ports:
        assert (info.spi >> 16, info.spi & 0xffff) == ports, (name, frame.hex())
    for field, value in facts.items():
        assert getattr(info, field) == value, (name, field, frame.hex())


def parse(frames, beat_bytes, pauses="none", origin=None):
    parser = Parser(beat_bytes=beat_bytes)
    source_pause, sink_pause = PAUSES[pauses]()
    results = []

    async def source(ctx):
        if origin:
            ctx.set(parser.origin, origin)
        await put_packets(ctx, parser.i, [b"\0\0" + frame for frame in frames], source_pause)

    async def sink(ctx):
        for _ in frames:
            results.append(await take(ctx, parser.o, sink_pause))

    simulate(parser, source, sink)
    return results


@pytest.mark.parametrize("beat_bytes", BEAT_BYTES)
@pytest.mark.parametrize("pauses", PAUSES)
def test_scapys_frames(beat_bytes, pauses):
    cases = list(frames())
    for (name, frame, reason), parsed in zip(cases, parse([frame for _, frame, _ in cases], beat_bytes, pauses), strict=True):
        assert parsed.decided == (reason is not None), name
        assert parsed.info.reason == (reason or 0), name
        check(frame, parsed, name)


@pytest.mark.parametrize("beat_bytes", BEAT_BYTES)
def test_every_length_of_truncated_frames(beat_bytes):
    names = ["esp", "esp, all options, tagged", "nat-t, tagged", "ike, marker, options", "udp", "ipv6", "arp, tagged"]
    cut = [frame[:size] for name, frame, _ in frames() if name in names for size in range(1, len(frame) + 1)]
    for frame, parsed in zip(cut, parse(cut, beat_bytes), strict=True):
        check(frame, parsed)


@pytest.mark.parametrize("beat_bytes", BEAT_BYTES)
def test_mutated_frames(beat_bytes):
    rng = random.Random(beat_bytes)
    cases = [frame for _, frame, _ in frames()]
    mutated = []
    for _ in range(800):
        frame = bytearray(rng.choice(cases))
        for _ in range(rng.choice([1, 1, 2, 4])):
            frame[rng.choice([rng.randrange(len(frame)), rng.randrange(min(45, len(frame)))])] = rng.choice([
                0, 0xff, 4, 0x45, 0x50, 0x81, 17, 50, 51, rng.randrange(256)])
        start = 18 if frame[12:14] == b"\x81\0" else 14
        if rng.random() < 0.7 and len(frame) >= start + 20:
            # With a right checksum the mutation gets further.
            words = max(frame[start] & 15, 5)
            frame[start + 10:start + 12] = bytes(2)
            header = bytes(frame[start:start + 4 * words])
            frame[start + 10:start + 12] = checksum(header).to_bytes(2, "big")
        mutated.append(bytes(frame[:rng.choice([len(frame), rng.randint(1, len(frame))])]))
    reasons = {classify(frame)[1] for frame in mutated}
    assert len(reasons) >= 9
    for frame, parsed in zip(mutated, parse(mutated, beat_bytes), strict=True):
        check(frame, parsed)


@pytest.mark.parametrize("beat_bytes", BEAT_BYTES)
def test_long_frames(beat_bytes):
    long = [bytes(ETHER / ip() / ESP(spi=0x1000, seq=1, data=bytes(size))) for size in (1400, MAX_FRAME - 44, 3)]
    for frame, parsed in zip(long, parse(long, beat_bytes), strict=True):
        check(frame, parsed)


@pytest.mark.parametrize("beat_bytes", BEAT_BYTES)
def test_origin(beat_bytes):
    frame = bytes(ETHER / ARP())
    parsed, = parse([frame], beat_bytes, origin={"port": Port.SERVER, "depth": 2, "injected": 1, "direct": 1})
    info = parsed.info
    assert parsed.decided and info.verdict == Verdict.DIRECT and info.ingress == Port.SERVER and info.depth == 2 and info.injected


def test_clocks_a_short_frame():
    """Eight clocks or fewer for a 64-byte frame at 16 bytes a beat."""
    parser = Parser(beat_bytes=16)
    frame = b"\0\0" + bytes(ETHER / ip() / ESP(spi=0x1000, seq=1, data=bytes(22)))
    assert len(frame) == 66
    count = 30

    async def source(ctx):
        await put(ctx, parser.i, beats(frame, 16) * count)

    async def sink(ctx):
        ctx.set(parser.o.ready, 1)
        taken = clocks = 0
        while taken < count:
            _, _, valid = await ctx.tick().sample(parser.o.valid)
            clocks += 1
            taken += valid
        assert clocks <= 8 * count + 10

    simulate(parser, source, sink)
