# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

import random
from dataclasses import dataclass, field, replace

import pytest
from scapy.layers.inet import IP, UDP, IPOption
from scapy.packet import Raw

from spigate.firmware_py.ipsec.identification import SOFTWARE_NUMBERS
from spigate.hdl.contract.enums import Auth, Cipher, Df, Port, Reason
from spigate.hdl.dfe.commit import Commit
from spigate.hdl.net.descriptor import Verdict
from spigate.hdl.net.packet import BEAT_BYTES
from tests.hdl.dfe.lanes import (
    ESP_HEADER,
    ETHERNET,
    EVERYTHING,
    TAGGED,
    Lanes,
    decrypted,
    frame_info,
    number,
    plain,
    trailer,
)
from tests.hdl.dfe.test_state import entry, limits
from tests.hdl.streams import never, put, simulate, sometimes, take, take_packet
from tests.rfc6040 import DECAPSULATION, ENCAPSULATION

pytestmark = pytest.mark.slow

MACS = {"destination_mac": 0x02AABBCCDD11, "source_mac": 0x02AABBCCDD12}
NEW_ETHERNET = bytes.fromhex("0000 02aabbccdd11 02aabbccdd12 0800")
NEW_TAGGED = bytes.fromhex("0000 02aabbccdd11 02aabbccdd12 8100 3123 0800")
ROUTES = {
    "own header": ({}, None),
    "new header": (MACS | {"rewrite": 1}, NEW_ETHERNET),
    "new tag": (MACS | {"rewrite": 1, "tagged": 1, "vlan_tci": 0x3123}, NEW_TAGGED),
}
SUITES = {
    "gcm": ({"cipher": Cipher.AES_GCM}, 8, 16, 4),
    "cbc-sha1": ({"cipher": Cipher.AES_CBC, "auth": Auth.HMAC_SHA1_96}, 16, 12, 16),
    "cbc-sha256": ({"cipher": Cipher.AES_CBC, "auth": Auth.HMAC_SHA256_128}, 16, 16, 16),
    "null-sha1": ({"auth": Auth.HMAC_SHA1_96}, 0, 12, 4),
    "null-sha256": ({"auth": Auth.HMAC_SHA256_128}, 0, 16, 4),
    "null": ({}, 0, 0, 4),
}


@dataclass
class Case:
    """A packet as a lane gives it, and what is to become of it: the frame that leaves at ``port``, or
    ``reason``.
    """

    done: dict
    content: bytes
    frame: bytes | None = None
    port: Port = Port.SERVER
    reason: Reason = Reason.NONE
    rows: dict = field(default_factory=lambda: EVERYTHING)
    lane: int = 0
    soft: bool = False
    depth: int = 0
    numbered: int | None = None
    """Where in ``frame`` an IP header begins whose identification is the DFE's own."""
    why: tuple = (0, 0, 0)
    """Why it may leave at the network port: protected, bypassed, injected."""


def run(cases, beat_bytes=16, lanes=1, pause=lambda seed: never, tables=()):
    commit = Commit(beat_bytes=beat_bytes, lanes=lanes, sa_entries=16)
    world = Lanes(commit, pause)
    world.open = False
    reports, identifications = [], []

    async def frames(ctx):
        ctx.set(commit.index, 3)
        ctx.set(commit.time, 0x01020304)
        for at, case in enumerate(cases):
            if case.frame is not None:
                got, due = await take_packet(ctx, commit.o, pause(300)), case.frame
                if case.numbered is not None:
                    place = case.numbered + 4
                    identifications.append(int.from_bytes(got[place : place + 2]))
                    due = due[: case.numbered] + changed(due[case.numbered :], id=identifications[-1])
                assert got == due, f"packet {at}:\n{got.hex(' ', 4)}\n{due.hex(' ', 4)}"

    async def egress(ctx):
        for case in cases:
            if case.frame is not None:
                got = await take(ctx, commit.egress, pause(301))
                assert (Port(got.port), got.depth) == (case.port, case.depth)
                out_of = got.out_of
                assert (got.protected, got.bypassed, got.injected) == case.why
                if case.done["job"]["info"]["verdict"] == Verdict.DECRYPT:
                    generation = case.done["job"]["control"].get("generation", 0)
                    assert (out_of.valid, out_of.dfe, out_of.sa, out_of.generation) == (
                        1,
                        3,
                        case.done["job"]["info"].get("sa", 0),
                        generation,
                    )
                else:
                    assert not out_of.valid

    async def settings(ctx):
        await put(ctx, commit.tables, [*entry(0), *tables])
        world.open = True

    async def report(ctx):
        while True:
            got = await take(ctx, commit.reports, pause(302))
            reports.append(
                (
                    Reason(got.reason),
                    got.dropped,
                    got.dfe,
                    got.sa,
                    got.spi,
                    got.sequence,
                    got.source,
                    got.destination,
                )
            )

    async def idle(ctx):
        while world.held or sum(1 for case in cases if case.reason != Reason.NONE or case.soft) > len(
            reports
        ):
            await ctx.tick()
        await ctx.tick().repeat(50)

    background = [
        *world.background([(case.lane, case.done, case.content, case.rows) for case in cases]),
        report,
    ]
    simulate(commit, settings, frames, egress, idle, background=background, clocks=400_000)

    expected = []
    for case in cases:
        job = case.done["job"]
        info = job["info"]
        ids = {Verdict.ENCRYPT: (job.get("control", {}).get("spi", 0), job.get("sequence", 0))}.get(
            info["verdict"], (info.get("spi", 0), info.get("sequence", 0))
        )
        facts = (3, info.get("sa", 0), *ids, info["source"], info["destination"])
        if case.reason != Reason.NONE:
            expected.append((case.reason, 1, *facts))
        if case.soft:
            expected.append((Reason.SOFT_LIFETIME, 0, *facts))
    assert reports == expected
    # RFC 6864 4.3, whatever SAs they are of; and only DFE 3 of eight has these.
    assert len(set(identifications)) == len(identifications)
    assert all(each % 8 == 3 and each > SOFTWARE_NUMBERS for each in identifications)
    return identifications


def changed(packet: bytes, **fields) -> bytes:
    """``packet`` with fields of its IP header changed, and the checksum made anew by scapy."""
    header, payload = IP(packet[: 4 * (packet[0] & 15)]), packet[4 * (packet[0] & 15) :]
    for name, value in fields.items():
        setattr(header, name, value)
    del header.chksum
    return bytes(header) + payload


def bypass(packet, *, ethernet=ETHERNET, route=(), new=None, padding=b"", **more):
    route = {"egress": Port.SERVER} | dict(route)
    return Case(
        *plain(packet, Verdict.BYPASS, ethernet=ethernet, route=route, padding=padding),
        frame=(new or ethernet) + packet,
        **more,
    )


def tunnel_in(
    packet, *, route=(), new=None, ethernet=ETHERNET, align=4, tail=b"", outer=None, out=None, info=(), **more
):
    route = {"egress": Port.SERVER} | dict(route)
    done, content = decrypted(
        trailer(packet + tail, 4, align), outer=outer, ethernet=ethernet, route=route, **dict(info)
    )
    out = out or (changed(packet, ttl=packet[8] - 1) if route.get("decrement_ttl") else packet)
    return Case(done, content, (new or ethernet) + out, **more)


def transport_in(payload, *, route=(), new=None, ethernet=ETHERNET, align=4, options=0, **more):
    route = {"egress": Port.SERVER} | dict(route)
    outer = IP(
        src="10.1.0.7",
        dst="10.2.0.9",
        proto=50,
        ttl=60,
        id=77,
        flags="DF",
        options=[IPOption(b"\x94\x04\x00\x00")] * options,
    )
    done, content = decrypted(
        trailer(payload, 17, align), outer=outer, ethernet=ethernet, mode=0, route=route
    )
    outer.proto, outer.ttl = 17, 59 if route.get("decrement_ttl") else 60
    return Case(done, content, (new or ethernet) + bytes(outer / Raw(payload)), **more)


def protected(packet, mode, suite, *, route=(), new=None, ethernet=ETHERNET, control=(), sequence=9, **more):
    """A packet that was encrypted: the buffer holds random bytes where the crypto put its own."""
    control_suite, iv, icv, align = SUITES[suite]
    control = (
        {"valid": 1, "direction": 1, "mode": mode, "spi": 0x1000, "outer_ttl": 33, "outer_tos": 0x88}
        | control_suite
        | dict(control)
    )
    route = {"egress": Port.NETWORK} | dict(route)
    ip = IP(packet)
    text = trailer(packet if mode else packet[4 * ip.ihl :], 4, align)
    esp = ESP_HEADER + random.Random(len(packet)).randbytes(iv + len(text) + icv)
    info = frame_info(ip, ethernet, verdict=Verdict.ENCRYPT, route=route)
    job = {
        "info": info,
        "control": control,
        "sequence": sequence,
        "text_bytes": len(text),
        "tunnel": {"source": number("192.0.2.1"), "destination": number("198.51.100.2")},
    }
    if mode:
        flags = {Df.CLEAR: "", Df.SET: "DF"}.get(control.get("df", 0), str(ip.flags & "DF"))
        job["esp"] = 10
        content = ethernet.ljust(40, b"\xcc") + esp
        out = bytes(
            IP(
                src="192.0.2.1",
                dst="198.51.100.2",
                ttl=33,
                proto=50,
                tos=ip.tos if control.get("copy_tos") else 0x88,
                flags=flags,
                id=0,
            )
            / Raw(esp)
        )
        if not flags:
            more["numbered"] = len(new or ethernet)
    else:
        header = packet[: 4 * ip.ihl]
        job["esp"] = (len(ethernet) + len(header)) // 4
        content = ethernet + header + esp
        out = changed(packet[: 4 * ip.ihl], proto=50, len=len(header) + len(esp)) + esp
    return Case(
        {"job": job, "ok": 1},
        content,
        (new or ethernet) + out,
        **{"port": Port.NETWORK, "why": (1, 0, 0)} | more,
    )


def packet_of(size, **fields):
    return bytes(
        IP(src="10.1.0.7", dst="10.2.0.9", **({"ttl": 64, "id": 4711} | fields))
        / UDP(sport=1000, dport=2000)
        / Raw((bytes(range(1, 256)) * 8)[:size])
    )


def everything():
    """One packet of each kind with each route."""
    packet = packet_of(30)
    for route, new in ROUTES.values():
        for ethernet in (ETHERNET, TAGGED):
            for decrement in (0, 1):
                shared = {"route": route | {"decrement_ttl": decrement}, "new": new, "ethernet": ethernet}
                yield bypass(packet, **shared)
                yield tunnel_in(packet, **shared)
                yield transport_in(packet[20:], **shared)
                yield protected(packet, 0, "gcm", **shared)
                yield protected(packet, 1, "cbc-sha256", **shared, control={"df": Df.SET})


def paused(seed):
    return sometimes(seed, 0.4)


@pytest.mark.parametrize("beat_bytes", BEAT_BYTES)
@pytest.mark.parametrize("pause", [lambda seed: never, paused], ids=["steady", "paused"])
def test_headers_and_routes(beat_bytes, pause):
    run(list(everything()), beat_bytes, pause=pause)


@pytest.mark.parametrize("beat_bytes", BEAT_BYTES)
def test_lengths(beat_bytes):
    cases = []
    for size in [*range(0, 36), 1400, 1420]:
        packet = packet_of(size)
        cases += [bypass(packet), tunnel_in(packet), transport_in(packet[20:], align=16)]
    cases += [
        protected(packet_of(size), mode, "gcm", control={"df": 1})
        for size in [*range(0, 36, 4), 1000, 1404]
        for mode in (0, 1)
    ]
    run(cases, beat_bytes)


def test_suites_and_their_lengths():
    run(
        [
            protected(packet_of(size), mode, suite, control={"df": Df.SET})
            for suite in SUITES
            for mode in (0, 1)
            for size in (4, 17)
        ]
    )


def test_options_stay():
    packet = packet_of(13, options=[IPOption(b"\x94\x04\x00\x00")] * 3)
    route = {"decrement_ttl": 1}
    run(
        [
            bypass(packet),
            bypass(packet, route=route),
            tunnel_in(packet),
            tunnel_in(packet, route=route),
            transport_in(packet[32:], options=2),
            transport_in(packet[32:], options=10, route=route),
            protected(packet, 0, "gcm"),
            protected(packet, 1, "gcm", control={"df": 1}),
        ]
    )


def test_outer_header():
    packets = [packet_of(20, tos=0xB9, flags=flags) for flags in ("DF", "")]
    df = Df
    run(
        [
            protected(packets[0], 1, "gcm", control={"copy_tos": 1, "df": df.SET}),
            protected(packets[1], 1, "gcm", control={"df": df.SET}),
            *(
                protected(packets[1], 1, "gcm", control={"df": kind}, sequence=sequence)
                for kind, sequence in ((df.CLEAR, 1), (df.COPY, 0x12345), (df.CLEAR, 0xFFFF_FFFF))
            ),
            protected(packets[0], 1, "gcm", control={"df": df.COPY, "copy_tos": 1}),
            protected(packets[0], 1, "gcm", control={"df": df.CLEAR}),
        ]
    )


@pytest.mark.parametrize("lanes", [1, 2])
def test_sas_between_the_same_two_addresses_share_identifications(lanes):
    """Three SAs, each at the same sequence numbers (audit row 17). With Don't Fragment nothing is used up:
    it needs none.
    """
    packet, cases = packet_of(20), []
    for at in range(24):
        case = protected(
            packet,
            1,
            "gcm",
            sequence=1 + at // 3,
            control={"df": Df.CLEAR, "spi": 0x1000 + at % 3},
            lane=at % lanes,
        )
        case.done["job"]["info"]["sa"] = 4 + at % 3
        cases += [case, protected(packet, 1, "gcm", sequence=at, control={"df": Df.SET}, lane=at % lanes)]
    numbers = run(cases, lanes=lanes, pause=paused, tables=[*entry(4), *entry(5), *entry(6)])
    assert [number - numbers[0] for number in numbers] == [8 * at for at in range(24)]


def test_padding_for_traffic_flow_confidentiality_is_cut_and_so_is_that_of_ethernet():
    packet = packet_of(11)
    run(
        [
            tunnel_in(packet, tail=bytes(200)),
            bypass(packet, padding=bytes(21)),
            bypass(packet, ethernet=TAGGED, padding=b"\xff" * 17),
        ]
    )


def test_congestion_is_carried_over():
    cases = []
    for (inner, outer), after in DECAPSULATION.items():
        packet = packet_of(20, tos=0x28 | inner)
        around = IP(src="192.0.2.1", dst="192.0.2.2", proto=50, ttl=9, tos=outer)
        cases.append(tunnel_in(packet, outer=around))
        if after is not None:
            out = {"tos": 0x28 | after}
            cases.append(
                tunnel_in(packet, outer=around, info={"control": {"copy_tos": 1}}, out=changed(packet, **out))
            )
            cases.append(
                tunnel_in(
                    packet,
                    outer=around,
                    info={"control": {"copy_tos": 1}},
                    route={"decrement_ttl": 1},
                    out=changed(packet, **out, ttl=63),
                )
            )
    run(cases)


def test_congestion_marks_outside():
    """RFC 6040 4.1: the outer header gets the inner one's."""
    run(
        [
            protected(packet_of(20, tos=0x28 | inner), 1, "gcm", control={"copy_tos": 1})
            for inner in ENCAPSULATION
        ]
    )
    assert all(inner == outer for inner, outer in ENCAPSULATION.items())


def test_checksums_that_carry():
    # Identifications that put the checksum near 0 and 0xffff, where mending it could give the other zero.
    source = random.Random(3)
    cases = []
    for wanted in (0x0000, 0x0001, 0x00FF, 0x0100, 0xFEFF, 0xFF00, 0xFFFE):
        base = IP(packet_of(8, id=0))
        total = (base.chksum - wanted) % 0xFFFF
        packet = packet_of(8, id=total)
        assert IP(packet).chksum == wanted or wanted in (0, 0xFFFF)
        cases += [bypass(packet), tunnel_in(packet, route={"decrement_ttl": 1}), protected(packet, 0, "gcm")]
    for _ in range(30):
        packet = packet_of(8, id=source.getrandbits(16), ttl=source.randrange(2, 256))
        cases += [tunnel_in(packet, route={"decrement_ttl": 1}), protected(packet, 0, "gcm")]
    run(cases)


OUT_OF = {"sa": 0xA55A, "dfe": 6, "valid": 1, "generation": 0xC3}


def punt(packet, reason, *, ethernet=ETHERNET, depth=0, sa=0x123, padding=b""):
    ruled = depth & 1
    info = {
        "reason": reason,
        "sa": sa,
        "depth": depth,
        "ingress": 1,
        "ruled": ruled,
        "rule": 45 * ruled,
        "out_of": OUT_OF if depth else {},
    }
    bits, came = (
        (ethernet == TAGGED) | ruled * (0x80 | 45 << 1),
        [0x5A, 0xA5, 0x86, 0xC3] if depth else [0] * 4,
    )
    header = bytes([1, reason, 1, 3, sa & 255, sa >> 8, depth, bits, 4, 3, 2, 1, *came])
    return Case(
        *plain(packet, Verdict.PUNT, ethernet=ethernet, padding=padding, **info),
        frame=header + ethernet + packet + padding,
        port=Port.CE,
        depth=depth,
    )


@pytest.mark.parametrize("beat_bytes", BEAT_BYTES)
def test_punts_leave_as_they_came(beat_bytes):
    run(
        [
            punt(packet_of(size), reason, ethernet=ethernet, depth=size % 4, padding=bytes(size % 7))
            for size, reason in zip(
                [*range(20), 1400], [Reason.IKE, Reason.UNKNOWN_SPI, Reason.FRAGMENT] * 7, strict=False
            )
            for ethernet in (ETHERNET, TAGGED)
        ],
        beat_bytes,
        pause=paused,
    )


def test_says_what_was_done_to_a_packet_not_what_was_wished_for():
    """A packet is protected where an outbound SA has encrypted it, and bypassed where its rule says that it
    may leave in the clear. What was decrypted is neither, wherever its route leads."""
    packet = packet_of(30)
    out = {"egress": Port.NETWORK}
    cases = [
        tunnel_in(packet, route=out, port=Port.NETWORK),
        transport_in(packet[20:], route=out, port=Port.NETWORK),
        bypass(packet, route=out, port=Port.NETWORK),
        protected(packet, 1, "gcm", control={"df": 1}),
    ]
    allowed = bypass(packet, route=out, port=Port.NETWORK, why=(0, 1, 0))
    allowed.done["job"]["info"]["clear"] = 1
    # The clear bit of a rule does not help what was decrypted, nor a row of another direction, or of none,
    # what should be encrypted.
    wrong = tunnel_in(packet, route=out, port=Port.NETWORK, info={"clear": 1, "sa": 9})
    wrong.done["job"]["control"]["generation"] = 0x77
    for control in ({"direction": 0}, {"valid": 0}):
        cases.append(protected(packet, 1, "gcm", control={"df": 1} | control, why=(0, 0, 0)))
    run([*cases, allowed, wrong], tables=entry(9))


def test_recirculation_counts_its_depth_and_ends():
    packet = packet_of(20)
    again = {"egress": Port.RECIRCULATE}
    cases = []
    for depth in range(4):
        done, content = decrypted(trailer(packet, 4), route=again, depth=depth)
        cases.append(
            Case(
                done,
                content,
                None if depth == 3 else ETHERNET + packet,
                port=Port.RECIRCULATE,
                depth=depth + 1,
                reason=Reason.NESTED if depth == 3 else Reason.NONE,
            )
        )
        clear = bypass(packet)
        clear.done["job"]["info"]["depth"] = clear.depth = depth
        cases.append(clear)
    run(cases)


def inbound(sequence, *, sa=1, ok=1, text=None, control=(), size=20, **more):
    packet = packet_of(size)
    done, content = decrypted(
        text or trailer(packet, 4),
        control={"anti_replay": 1, "window_size": 64} | dict(control),
        sa=sa,
        sequence=sequence,
        route={"egress": Port.SERVER},
    )
    return Case(done | {"ok": ok}, content, ETHERNET + packet if not more.get("reason") else None, **more)


def test_replay_then_icv_then_the_rest():
    replayed, icv, padding, dummy = (Reason.REPLAY, Reason.ICV, Reason.PADDING, Reason.DUMMY)
    bad = trailer(packet_of(20), 4, padding=b"\x01\x05")
    run(
        [
            inbound(1),
            inbound(1, reason=replayed),
            inbound(1, ok=0, reason=replayed),
            inbound(0, reason=replayed),
            # A wrong ICV moves nothing, however far ahead.
            inbound(2**32 - 1, ok=0, reason=icv),
            inbound(2),
            inbound(2**31, ok=0, text=bad, reason=icv),
            inbound(3),
            # Padding and the rest are looked at behind the window, which has moved by then.
            inbound(70, text=bad, reason=padding),
            inbound(70, reason=replayed),
            inbound(6, reason=replayed),
            inbound(7),
            inbound(71, text=trailer(b"", 59), reason=dummy),
            inbound(71, reason=replayed),
            # Another SA, and one that does not mind.
            inbound(1, sa=2),
            inbound(70, sa=3, control={"anti_replay": 0}),
            inbound(70, sa=3, control={"anti_replay": 0}),
            inbound(0, sa=3, control={"anti_replay": 0}),
        ],
        tables=[*entry(1), *entry(2), *entry(3)],
    )


@pytest.mark.parametrize("lanes", [1, 2, 4])
def test_window_is_exact_over_lanes(lanes):
    source = random.Random(lanes)
    highest, seen, cases = 0, set(), []
    for _ in range(120):
        sequence = max(0, highest + source.choice([1, 1, 1, 2, 0, -1, -3, -63, -64, 70]))
        ok = source.random() < 0.8
        fresh = sequence and sequence > highest - 64 and sequence not in seen
        reason = Reason.REPLAY if not fresh else Reason.NONE if ok else Reason.ICV
        if reason == Reason.NONE:
            seen.add(sequence)
            highest = max(highest, sequence)
        cases.append(
            inbound(
                sequence, ok=ok, reason=reason, lane=source.randrange(lanes), size=source.choice([0, 20, 40])
            )
        )
    run(cases, lanes=lanes, pause=paused, tables=entry(1))


def test_lifetimes():
    lifetime, policy = Reason.LIFETIME, Reason.POLICY
    nothing = {"selector_addresses": {"source": 1, "source_mask": 0xFFFFFFFF}, "selector_ports": {}}
    packet = packet_of(20)  # 48 bytes
    outbound = {"sa": 3}

    def out(sequence, mode, reason=Reason.NONE, **more):
        case = protected(packet, mode, "gcm", sequence=sequence, control={"df": 1}, **more)
        case.done["job"]["info"]["sa"] = outbound["sa"]
        case.reason, case.frame = reason, None if reason else case.frame
        return case

    run(
        [
            # Packets: soft at 2, hard at 4. What a selector refuses counts, what is replayed or damaged
            # does not.
            inbound(1),
            inbound(1, reason=Reason.REPLAY),
            inbound(9, ok=0, reason=Reason.ICV),
            inbound(2, reason=policy, rows=nothing, control={"check_selectors": 1}, soft=True),
            inbound(3),
            inbound(4),
            inbound(5, reason=lifetime),
            inbound(6, reason=lifetime),
            inbound(7, reason=policy, rows=nothing, control={"check_selectors": 1}),
            # Bytes of the text without its trailer: 48 each.
            inbound(1, sa=2),
            inbound(2, sa=2, soft=True),
            inbound(3, sa=2, reason=lifetime),
            inbound(4, sa=2, size=0),
            inbound(5, sa=2, size=0, reason=lifetime),
            # Outbound in tunnel mode 48 bytes, in transport mode 28.
            out(1, 1, soft=True),
            out(2, 0),
            out(3, 0, reason=lifetime),
            out(4, 1, reason=lifetime),
        ],
        tables=[
            *entry(1, packets=limits(2, 4)),
            *entry(2, octets=limits(96, 124)),
            *entry(3, octets=limits(48, 76)),
        ],
    )


def test_drops_of_dispatch_are_reported_once():
    packet = packet_of(20)
    run(
        [
            case
            for reason in (Reason.POLICY, Reason.MALFORMED, Reason.SEQUENCE_OVERFLOW, Reason.TTL)
            for case in (
                Case(*plain(packet, Verdict.DROP, reason=reason, sa=7), reason=reason),
                bypass(packet),
            )
        ],
        pause=paused,
    )


@pytest.mark.parametrize("beat_bytes", BEAT_BYTES)
@pytest.mark.parametrize("lanes", [1, 3])
def test_mixture(beat_bytes, lanes):
    source = random.Random(beat_bytes + lanes)
    cases = [
        *everything(),
        *(punt(packet_of(size), Reason.IKE) for size in range(10)),
        *(
            Case(*plain(packet_of(5), Verdict.DROP, reason=Reason.POLICY), reason=Reason.POLICY)
            for _ in range(10)
        ),
        *(inbound(5, ok=0, sa=4, reason=Reason.ICV) for _ in range(10)),
    ]
    source.shuffle(cases)
    for case in cases:
        case.lane = source.randrange(lanes)
    run(cases, beat_bytes, lanes, paused)


def clocks_a_packet(case, beat_bytes=16, lanes=1, packets=20):
    commit = Commit(beat_bytes=beat_bytes, lanes=lanes, sa_entries=16)
    world = Lanes(commit)
    ends = []

    async def testbench(ctx):
        await put(ctx, commit.tables, entry(0))
        ctx.set(commit.o.ready, 1)
        ctx.set(commit.egress.ready, 1)
        ctx.set(commit.reports.ready, 1)
        clock = 0
        while len(ends) < packets:
            clock += 1
            _, _, valid, last = await ctx.tick().sample(commit.o.valid, commit.o.payload.last)
            if valid and last:
                ends.append(clock)

    simulate(
        commit,
        testbench,
        background=world.background(
            [(at % lanes, case.done, case.content, case.rows) for at in range(packets + 8)]
        ),
    )
    return (ends[-1] - ends[4]) / (packets - 5)


SMALL = packet_of(36)  # 64 bytes


@pytest.mark.parametrize("beat_bytes, lanes, most", [(16, 1, 16), (16, 2, 16), (8, 1, 20)])
@pytest.mark.parametrize(
    "case",
    [
        tunnel_in(SMALL, align=16),
        tunnel_in(SMALL, info={"control": {"check_selectors": 1}}),
        transport_in(SMALL[20:]),
        bypass(SMALL),
        protected(SMALL, 1, "cbc-sha256", control={"df": 1}),
        protected(SMALL, 1, "gcm", control={"df": 1}),
        protected(SMALL, 0, "gcm"),
    ],
    ids=[
        "tunnel in, cbc",
        "tunnel in, gcm",
        "transport in",
        "bypass",
        "tunnel out, cbc",
        "tunnel out, gcm",
        "transport out",
    ],
)
def test_clocks_a_packet(case, lanes, beat_bytes, most):
    assert clocks_a_packet(case, beat_bytes, lanes) <= most


def test_long_packets_leave_a_beat_a_clock():
    packet = packet_of(1372)
    assert clocks_a_packet(tunnel_in(packet), packets=15) <= (2 + 14 + 1400) / 16 + 12


@pytest.mark.parametrize("ethernet", [ETHERNET, TAGGED])
def test_what_has_lived_too_long_goes_round_as_it_is(ethernet):
    """Instead of by its route; but no more often than headers can count."""
    options = {
        "ethernet": ethernet,
        "route": MACS | {"egress": Port.NETWORK, "decrement_ttl": 1, "rewrite": 1},
    }
    cases = []
    for late in (packet_of(20, ttl=1), packet_of(20, ttl=0)):
        cases += [
            tunnel_in(
                late, out=late, info={"depth": depth}, port=Port.RECIRCULATE, depth=depth + 1, **options
            )
            for depth in range(3)
        ]
        cases.append(
            replace(tunnel_in(late, info={"depth": 3}, out=late, reason=Reason.NESTED, **options), frame=None)
        )
    run(cases)
