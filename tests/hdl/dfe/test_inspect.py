# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

import random
from ipaddress import ip_address

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption
from scapy.packet import Raw

from spigate.hdl.contract.enums import Port, Reason
from spigate.hdl.dfe.inspect import Inspect
from spigate.hdl.net.descriptor import Verdict
from tests.hdl.cfe.frames import martian
from tests.hdl.dfe.lanes import EVERYTHING, TAGGED, Lane, decrypted, number, plain, rows_of, trailer
from tests.hdl.streams import PAUSES, never, put, simulate, sometimes, take
from tests.rfc6040 import DECAPSULATION

INNER = IP(src="10.1.0.7", dst="10.2.0.9", ttl=64, tos=0)


def inner(size=20, **fields):
    packet = INNER.copy()
    for name, value in fields.items():
        setattr(packet, name, value)
    return bytes(packet / UDP(sport=1000, dport=2000) / Raw((bytes(range(256)) * 6)[:size]))


def run(cases, pauses=(never, never), lane_pause=never):
    """``cases``: (done, content, selector rows, check) with ``check(inspection)``."""
    inspect = Inspect()
    lane = Lane()
    source_pause, sink_pause = pauses

    async def testbench(ctx):
        for at, (done, content, rows, check) in enumerate(cases):
            buffer = at % 4
            lane.contents[buffer], lane.rows[buffer] = content, rows_of(**rows)
            await put(ctx, inspect.i, [{"done": done | {"buffer": buffer}, "lane": 0}], source_pause)
            check(await take(ctx, inspect.o, sink_pause))

    simulate(inspect, testbench, background=[lane.serve(inspect.read, inspect.rows, lane_pause)])


def expects(reason, *, label="", **facts):
    def check(inspection):
        assert Reason(inspection.reason) == reason, label
        for name, value in facts.items():
            assert getattr(inspection, name) == value, (label, name)

    return check


def case(text, reason=Reason.NONE, rows=EVERYTHING, label="", facts=None, **more):
    done, content = decrypted(text, **more)
    return done, content, rows, expects(reason, label=label, **(facts or {}))


def header_of(packet):
    return int.from_bytes(packet[:20], "little")


@pytest.mark.parametrize("pauses", PAUSES)
def test_sound_packets(pauses):
    cases = []
    for size in [*range(0, 40), 100, 1400]:
        packet = inner(size)
        for align in (4, 16):
            cases.append(
                case(
                    trailer(packet, 4, align),
                    facts={
                        "content": len(packet),
                        "next_header": 4,
                        "header": header_of(packet),
                        "counts": 1,
                        "ecn": 0,
                    },
                )
            )
    run(cases, PAUSES[pauses](), never if pauses == "none" else sometimes(9, 0.4))


def test_every_length_of_padding():
    packet = inner()
    for start in (0, 128):
        run(
            [
                case(
                    trailer(packet + bytes((2 - length) % 4), 4, padding=bytes(range(1, length + 1))),
                    label=str(length),
                )
                for length in range(start, start + 128)
            ]
        )


def test_one_wrong_byte_of_padding():
    packet, cases = inner(), []
    for length in (1, 2, 3, 6, 7, 8, 13, 14, 15, 22, 100, 255):
        for at in {0, 1, length // 2, length - 2, length - 1}:
            if 0 <= at < length:
                padding = bytearray(range(1, length + 1))
                padding[at] ^= 0x40
                text = trailer(packet + bytes((2 - length) % 4), 4, padding=bytes(padding))
                cases.append(case(text, Reason.PADDING, label=f"{length} {at}", facts={"counts": 0}))
    # The byte in front of the padding may be anything.
    cases.append(case(trailer(packet + b"\xff" * 4, 4, 16)))
    run(cases)


def test_pad_length_beyond_the_text():
    run(
        [
            case(bytes([1, 2, 2, 4]), Reason.MALFORMED),  # nothing but a trailer: an inner packet of 0 bytes
            case(bytes([1, 2, 3, 4]), Reason.PADDING),
            case(bytes([0, 0, 255, 4]), Reason.PADDING),
            case(bytes([1, 2, 2, 17]), mode=0, facts={"content": 0, "next_header": 17}),
            case(bytes([1, 2, 3, 17]), Reason.PADDING, mode=0),
            case(bytes(range(1, 7)) + bytes([7, 17]), Reason.PADDING, mode=0),
        ]
    )


def test_next_header():
    packet = inner()
    run(
        [
            case(trailer(packet, 59), Reason.DUMMY),
            case(trailer(b"", 59), Reason.DUMMY),
            case(trailer(b"", 59), Reason.DUMMY, mode=0),
            case(trailer(b"\xff", 59, padding=b"\x09"), Reason.PADDING),
            case(trailer(packet, 41), Reason.PADDING),
            case(trailer(packet, 17), Reason.PADDING),
            case(trailer(packet, 0), Reason.PADDING),
            case(trailer(packet, 4), mode=0, facts={"next_header": 4}),
            case(trailer(packet, 253), mode=0, facts={"next_header": 253}),
        ]
    )


def test_inner_header():
    packet = inner(44)

    def changed(at, value, source=packet):
        """A header with a byte changed and the checksum right again."""
        raw = bytearray(source)
        raw[at] = value
        raw[10:12] = bytes(2)
        total = sum(int.from_bytes(raw[i : i + 2], "big") for i in range(0, max(4 * (raw[0] & 15), 20), 2))
        while total >> 16:
            total = (total & 0xFFFF) + (total >> 16)
        raw[10:12] = (0xFFFF ^ total).to_bytes(2, "big")
        return bytes(raw)

    wrong_checksum = packet[:10] + bytes([packet[10] ^ 1]) + packet[11:]
    options = inner(30, options=[IPOption(b"\x94\x04\x00\x00") for _ in range(3)])
    most_options = inner(30, options=[IPOption(b"\x94\x04\x00\x00") for _ in range(10)])
    run(
        [
            case(trailer(changed(0, 0x45), 4)),
            case(trailer(changed(0, 0x65), 4), Reason.MALFORMED),
            case(trailer(changed(0, 0x44), 4), Reason.MALFORMED),
            case(trailer(changed(0, 0x40), 4), Reason.MALFORMED),
            case(trailer(wrong_checksum, 4), Reason.MALFORMED),
            case(trailer(packet[:4] + b"\xff" + packet[5:], 4), Reason.MALFORMED),
            # Total length: one more than there is, exactly, less (padding for traffic flow
            # confidentiality), less than the header.
            case(trailer(changed(3, 73), 4), Reason.MALFORMED),
            case(trailer(changed(3, 72), 4)),
            case(trailer(changed(3, 71), 4)),
            case(trailer(changed(3, 20), 4)),
            case(trailer(changed(3, 19), 4), Reason.MALFORMED),
            case(trailer(changed(2, 1), 4), Reason.MALFORMED),
            case(trailer(packet + bytes(500), 4), facts={"content": 572}),
            case(trailer(options, 4), facts={"header": header_of(options)}),
            case(trailer(most_options, 4)),
            case(trailer(options[:25] + b"\x07" + options[26:], 4), Reason.MALFORMED),
            case(trailer(most_options[:59] + b"\x07" + most_options[60:], 4), Reason.MALFORMED),
            # A header with options that says that the packet ends within it.
            case(trailer(changed(3, 31, options), 4), Reason.MALFORMED),
            case(trailer(changed(3, 32, options), 4)),
            # Fragments pass.
            case(trailer(inner(44, flags="MF"), 4)),
            case(trailer(inner(44, frag=100), 4)),
        ]
    )


def test_time_to_live():
    kept = {"egress": Port.SERVER}
    route = {**kept, "decrement_ttl": 1, "rewrite": 1}
    outer = IP(src="192.0.2.1", dst="192.0.2.2", proto=50, ttl=1)

    def way(egress):
        def check(inspection):
            found = inspection.task.done.job.info.route
            assert Reason(inspection.reason) == Reason.NONE and Port(found.egress) == egress
            assert egress != Port.RECIRCULATE or not (found.rewrite or found.decrement_ttl)

        return check

    # What has lived too long goes round, as it is: the control element answers it.
    run(
        [
            (*made[:3], way(egress))
            for made, egress in (
                (case(trailer(inner(ttl=2), 4), route=route), Port.SERVER),
                (case(trailer(inner(ttl=1), 4), route=route), Port.RECIRCULATE),
                (case(trailer(inner(ttl=0), 4), route=route), Port.RECIRCULATE),
                (case(trailer(inner(ttl=1), 4), route=kept), Port.SERVER),
                (case(trailer(inner(), 4), outer=outer, route=route), Port.SERVER),
                (case(trailer(b"12345678", 17), mode=0, outer=outer, route=route), Port.RECIRCULATE),
                (case(trailer(b"12345678", 17), mode=0, outer=outer, route=kept), Port.SERVER),
                # Dispatch has counted it down.
                ((*plain(inner(ttl=1), Verdict.BYPASS, route=route), {}, None), Port.SERVER),
            )
        ]
    )


def test_congestion():
    def outer(ecn):
        return IP(src="192.0.2.1", dst="192.0.2.2", proto=50, ttl=9, tos=0xB8 | ecn)

    cases = []
    for (inner_ecn, outer_ecn), after in DECAPSULATION.items():
        text = trailer(inner(tos=0x28 | inner_ecn), 4)
        cases.append(
            case(text, Reason.MALFORMED, outer=outer(outer_ecn), control={"copy_tos": 1})
            if after is None
            else case(text, outer=outer(outer_ecn), control={"copy_tos": 1}, facts={"ecn": after})
        )
        cases.append(case(text, outer=outer(outer_ecn), control={"copy_tos": 0}, facts={"ecn": inner_ecn}))
    for ecn in range(4):
        cases.append(
            case(trailer(b"1234", 17), outer=outer(ecn), control={"copy_tos": 1}, mode=0, facts={"ecn": ecn})
        )
    run(cases)


def selectors(
    source="0.0.0.0",
    source_mask="0.0.0.0",
    destination="0.0.0.0",
    destination_mask="0.0.0.0",
    protocol=None,
    source_ports=(0, 65535),
    destination_ports=(0, 65535),
):
    return {
        "selector_addresses": {
            "source": number(source),
            "source_mask": number(source_mask),
            "destination": number(destination),
            "destination_mask": number(destination_mask),
        },
        "selector_ports": {
            "source_port_low": source_ports[0],
            "source_port_high": source_ports[1],
            "destination_port_low": destination_ports[0],
            "destination_port_high": destination_ports[1],
            "protocol": protocol or 0,
            "any_protocol": protocol is None,
        },
    }


UDP_PACKET = bytes(INNER / UDP(sport=1000, dport=2000) / Raw(b"x" * 9))
TCP_PACKET = bytes(INNER / TCP(sport=80, dport=40000))
PING = bytes(INNER / ICMP(id=1000, seq=2000) / Raw(b"x" * 20))
LATE_FRAGMENT = bytes(IP(bytes(INNER / UDP(sport=1000, dport=2000) / Raw(b"x" * 40)))[IP].fragment(16)[1])
FIRST_FRAGMENT = bytes(IP(bytes(INNER / UDP(sport=1000, dport=2000) / Raw(b"x" * 40)))[IP].fragment(16)[0])
WITH_OPTIONS = bytes(
    IP(src="10.1.0.7", dst="10.2.0.9", options=[IPOption(b"\x94\x04\x00\x00")]) / UDP(sport=1000, dport=2000)
)
LONG_OPTIONS = bytes(
    IP(src="10.1.0.7", dst="10.2.0.9", options=[IPOption(b"\x94\x04\x00\x00")] * 10)
    / UDP(sport=1000, dport=2000)
)
PORTS = {"source_ports": (1000, 1000), "destination_ports": (2000, 2000)}


def test_selectors_of_a_tunnel():
    table = [
        (UDP_PACKET, selectors(), True),
        (UDP_PACKET, selectors("10.1.0.0", "255.255.0.0", "10.2.0.0", "255.255.0.0"), True),
        (
            UDP_PACKET,
            selectors("10.1.0.7", "255.255.255.255", "10.2.0.9", "255.255.255.255", 17, **PORTS),
            True,
        ),
        (UDP_PACKET, selectors("10.1.0.6", "255.255.255.255"), False),
        (UDP_PACKET, selectors("10.1.0.6", "255.255.255.254"), True),
        (UDP_PACKET, selectors(destination="10.2.0.8", destination_mask="255.255.255.255"), False),
        (UDP_PACKET, selectors(destination="138.2.0.9", destination_mask="255.255.255.255"), False),
        (UDP_PACKET, selectors(protocol=6), False),
        (TCP_PACKET, selectors(protocol=6), True),
        (UDP_PACKET, selectors(source_ports=(999, 1000)), True),
        (UDP_PACKET, selectors(source_ports=(1000, 1001)), True),
        (UDP_PACKET, selectors(source_ports=(1001, 65535)), False),
        (UDP_PACKET, selectors(source_ports=(0, 999)), False),
        (UDP_PACKET, selectors(destination_ports=(2001, 65535)), False),
        (UDP_PACKET, selectors(destination_ports=(0, 1999)), False),
        (UDP_PACKET, selectors(destination_ports=(2000, 2000)), True),
        (TCP_PACKET, selectors(source_ports=(80, 80), destination_ports=(40000, 40000)), True),
        # No ports: only the whole range matches.
        (PING, selectors(source_ports=(0, 0), destination_ports=(0, 0)), False),
        (PING, selectors(**PORTS), False),
        (PING, selectors(source_ports=(1, 65535)), False),
        (PING, selectors(destination_ports=(0, 65534)), False),
        (PING, selectors(), True),
        (FIRST_FRAGMENT, selectors(**PORTS), True),
        (LATE_FRAGMENT, selectors(**PORTS), False),
        (LATE_FRAGMENT, selectors(), True),
        (WITH_OPTIONS, selectors(**PORTS), True),
        (LONG_OPTIONS, selectors(**PORTS), True),
        (LONG_OPTIONS, selectors(source_ports=(1000, 1000), destination_ports=(2001, 2001)), False),
    ]
    run(
        [
            case(
                trailer(packet, 4, 16),
                Reason.NONE if matches else Reason.POLICY,
                rows=rows,
                control={"check_selectors": 1},
                label=str(at),
            )
            for at, (packet, rows, matches) in enumerate(table)
        ],
        lane_pause=sometimes(4, 0.3),
    )
    run([case(trailer(UDP_PACKET, 4), rows=selectors(protocol=6))])


def test_a_packet_too_short_for_ports_has_none():
    for length in (20, 23, 24):
        packet = bytes(IP(src="10.1.0.7", dst="10.2.0.9", proto=17, len=length) / Raw(UDP_PACKET[20:28]))
        run(
            [
                case(
                    trailer(packet, 4),
                    Reason.NONE if length == 24 else Reason.POLICY,
                    rows=selectors(**PORTS),
                    control={"check_selectors": 1},
                )
            ]
        )


def test_selectors_of_transport_mode():
    outer = IP(src="10.1.0.7", dst="10.2.0.9", proto=50, options=[IPOption(b"\x94\x04\x00\x00")])
    payload = UDP_PACKET[20:]
    for rows, matches in (
        (selectors("10.1.0.7", "255.255.255.255", "10.2.0.9", "255.255.255.255", 17, **PORTS), True),
        (selectors(protocol=50), False),
        (selectors("10.1.0.8", "255.255.255.255"), False),
        (selectors(source_ports=(1, 999)), False),
    ):
        for ethernet in ({}, {"ethernet": TAGGED}):
            run(
                [
                    case(
                        trailer(payload, 17),
                        Reason.NONE if matches else Reason.POLICY,
                        rows=rows,
                        outer=outer,
                        mode=0,
                        control={"check_selectors": 1},
                        **ethernet,
                    )
                ]
            )


def test_martians_inside():
    """What is never forwarded is not forwarded either because it was encrypted (RFC 1812 5.3.7), whatever
    the SA may carry.
    """
    addresses = (
        "0.0.0.1",
        "1.0.0.0",
        "126.0.0.1",
        "127.0.0.1",
        "128.0.0.1",
        "223.0.0.1",
        "224.0.0.5",
        "224.0.1.0",
        "239.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
    )
    cases = []
    for source, destination in [("10.1.0.7", address) for address in addresses] + [
        (address, "10.2.0.9") for address in addresses
    ]:
        packet = bytes(IP(src=source, dst=destination) / UDP(sport=1000, dport=2000))
        bad = martian(int(ip_address(source)), int(ip_address(destination)), False)
        cases.append(
            case(
                trailer(packet, 4),
                Reason.MARTIAN if bad else Reason.NONE,
                rows=EVERYTHING,
                control={"check_selectors": 1},
            )
        )
    run(cases)
    # In transport mode the addresses are those of the packet that came, which the parser has looked at.
    outer = IP(src="10.1.0.7", dst="239.0.0.1", proto=50)
    run(
        [
            case(
                trailer(UDP_PACKET[20:], 17),
                rows=EVERYTHING,
                outer=outer,
                mode=0,
                control={"check_selectors": 1},
            )
        ]
    )


def test_what_was_not_decrypted_passes():
    done, content = decrypted(bytes(40))
    damaged = done | {"ok": 0}
    bypass, bypass_content = plain(UDP_PACKET, Verdict.BYPASS, ethernet=TAGGED)
    outbound, outbound_content = plain(UDP_PACKET, Verdict.ENCRYPT)
    tunnel, tunnel_content = plain(UDP_PACKET, Verdict.ENCRYPT)
    tunnel["job"]["control"] = {"mode": 1}
    run(
        [
            (damaged, content, {}, expects(Reason.NONE)),
            (*plain(UDP_PACKET, Verdict.PUNT, reason=Reason.IKE), {}, expects(Reason.NONE)),
            (*plain(UDP_PACKET, Verdict.DROP, reason=Reason.POLICY), {}, expects(Reason.NONE)),
            (bypass, bypass_content, {}, expects(Reason.NONE, header=header_of(UDP_PACKET))),
            (outbound, outbound_content, {}, expects(Reason.NONE, header=header_of(UDP_PACKET))),
            (tunnel, tunnel_content, {}, expects(Reason.NONE)),
        ]
    )


def test_random_text_never_stops_it():
    source = random.Random(11)
    cases = []
    for _ in range(150):
        text = source.randbytes(4 * source.randrange(1, 60))
        done, content = decrypted(
            text, mode=source.randrange(2), control={"check_selectors": source.randrange(2)}
        )
        cases.append((done, content, EVERYTHING, lambda inspection: None))
    cases.append(case(trailer(inner(), 4)))
    run(cases, lane_pause=sometimes(5, 0.4))


def test_clocks_a_packet():
    inspect = Inspect()
    lane = Lane()
    clocks = []
    done, content = decrypted(trailer(inner(36), 4, 16), control={"check_selectors": 1})
    lane.contents[0], lane.rows[0] = content, rows_of(**EVERYTHING)

    async def testbench(ctx):
        ctx.set(inspect.i.payload, {"done": done, "lane": 0})
        ctx.set(inspect.i.valid, 1)
        ctx.set(inspect.o.ready, 1)
        for clock in range(200):
            if ctx.get(inspect.o.valid):
                clocks.append(clock)
            await ctx.tick()

    simulate(inspect, testbench, background=[lane.serve(inspect.read, inspect.rows)])
    assert {later - earlier for earlier, later in zip(clocks, clocks[1:], strict=False)} == {15}
