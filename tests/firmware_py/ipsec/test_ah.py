# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""AH in software against scapy, and what may change on the way."""

import random
from ipaddress import ip_address

import pytest
from scapy.layers.inet import IP, UDP, IPOption, IPOption_LSRR, IPOption_RR
from scapy.layers.inet6 import (
    HBHOptUnknown,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    RouterAlert,
)
from scapy.layers.ipsec import AH, SecurityAssociation

from spigate.firmware_py.errors import InputError
from spigate.firmware_py.ipsec.packet import Ip, Refused, rewrite
from spigate.firmware_py.ipsec.sa import AH as PROTOCOL
from spigate.firmware_py.ipsec.sa import AUTHS, Auth, Encapsulation, Sa
from spigate.firmware_py.ipsec.soft_sa import SoftSa
from spigate.hdl.contract.enums import Direction, Mode, Reason

NAMES = {
    Auth.HMAC_SHA1_96: "HMAC-SHA1-96",
    Auth.HMAC_SHA256_128: "SHA2-256-128",
    Auth.HMAC_SHA384_192: "SHA2-384-192",
    Auth.HMAC_SHA512_256: "SHA2-512-256",
}
ENDS = {4: ("192.0.2.1", "192.0.2.2"), 6: ("2001:db8::1", "2001:db8::2")}
HEADERS = {4: IP, 6: IPv6}


def make(auth=Auth.HMAC_SHA256_128, direction=Direction.INBOUND, version=4, mode=Mode.TRANSPORT, **changes):
    source, destination = map(ip_address, ENDS[version])
    return Sa(
        **{
            "direction": direction,
            "spi": 0x1234,
            "source": source,
            "destination": destination,
            "mode": mode,
            "protocol": PROTOCOL,
            "auth": auth,
            "auth_key": random.Random(auth).randbytes(AUTHS[auth].key),
            **changes,
        }
    )


def both(**changes):
    return tuple(
        SoftSa(make(direction=direction, **changes)) for direction in (Direction.OUTBOUND, Direction.INBOUND)
    )


def scapy_sa(sa):
    version = sa.source.version
    tunnel = HEADERS[version](src=str(sa.source), dst=str(sa.destination)) if sa.mode == Mode.TUNNEL else None
    return SecurityAssociation(
        AH, sa.spi, auth_algo=NAMES[sa.auth], auth_key=sa.auth_key, tunnel_header=tunnel
    )


def packet(version=4, size=50, *extensions, **fields):
    source, destination = ENDS[version]
    made = HEADERS[version](src=source, dst=destination, **fields)
    for extension in extensions:
        made /= extension
    return bytes(made / UDP(sport=1, dport=2) / random.Random(size).randbytes(size))


def refused(reason):
    return pytest.raises(Refused, match=f"^{reason.name.lower()}$")


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("auth", NAMES)
def test_agrees_with_scapy_in_both_directions(auth, mode, version):
    for size in (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 100, 1301):
        # scapy pads AH over IPv4 to 4 bytes, and over IPv6 to 8.
        sender, receiver = both(auth=auth, mode=mode, version=version)
        plain = packet(version, size)
        signed = sender.encapsulate(plain)
        scapy = scapy_sa(sender.sa)
        assert bytes(scapy.decrypt(HEADERS[version](signed))) == plain
        assert receiver.decapsulate(bytes(scapy.encrypt(HEADERS[version](plain)))) == plain
        assert receiver.state.bytes == size + 8 + (mode == Mode.TUNNEL) * {4: 20, 6: 40}[version]


@pytest.mark.parametrize("align", [4, 8])
@pytest.mark.parametrize("auth", NAMES)
def test_padding_of_linux_and_of_the_rfc_is_taken(auth, align):
    sender, receiver = SoftSa(make(auth, Direction.OUTBOUND, ah_align=align)), SoftSa(make(auth))
    signed = sender.encapsulate(packet())
    assert 4 * (signed[21] + 2) % align == 0
    assert receiver.decapsulate(signed) == packet()


@pytest.mark.parametrize("esn", [False, True])
@pytest.mark.parametrize(("version", "inside"), [(4, 4), (4, 6), (6, 4), (6, 6)])
def test_tunnels_of_one_version_in_the_other(version, inside, esn):
    sender, receiver = both(version=version, mode=Mode.TUNNEL, esn=esn, sequence=0xFFFF_FFF0 if esn else 0)
    for size in range(40):
        assert receiver.decapsulate(sender.encapsulate(packet(inside, size))) == packet(inside, size)
    assert receiver.state.packets == 40


OPTIONS = [
    IPOption(b"\x94\4\0\0"),
    IPOption(b"\x82\x0b" + bytes(9)),
    IPOption_RR(pointer=4, routers=["0.0.0.0", "0.0.0.0"]),
]


def test_options_are_authenticated_where_they_stay():
    """Router alert and security do, record route does not (RFC 4302 A1)."""
    sender, _ = both()
    signed = sender.encapsulate(packet(options=OPTIONS))
    kept = 20 + len(bytes(OPTIONS[0])) + len(bytes(OPTIONS[1]))
    # Of record route what routers write: the pointer and the addresses.
    for at in [*range(20, kept), *range(kept + 2, kept + len(bytes(OPTIONS[2])))]:
        changed = changed_in(4, signed, at, 0x40)
        _, receiver = both()
        if at >= kept:
            assert receiver.decapsulate(changed)
        else:
            with pytest.raises(Refused):
                receiver.decapsulate(changed)


def test_a_source_route_is_signed_as_it_arrives():
    sender, receiver = both()
    route = IPOption_LSRR(pointer=4, routers=["192.0.2.2"])
    first = bytes(IP(src="192.0.2.1", dst="198.51.100.1", options=[route]) / UDP() / b"data")
    signed = sender.encapsulate(first)
    arrived = bytearray(signed)
    arrived[16:20] = ip_address("192.0.2.2").packed
    arrived[22] = 8
    arrived[23:27] = ip_address("198.51.100.9").packed
    assert receiver.decapsulate(rewrite(bytes(arrived), Ip.parse(signed).header_bytes))[-4:] == b"data"


def changed_in(version, signed, at, value):
    damaged = bytearray(signed)
    damaged[at] ^= value
    return rewrite(bytes(damaged), Ip.parse(signed).header_bytes) if version == 4 else bytes(damaged)


@pytest.mark.parametrize(("version", "may"), [(4, {1, 6, 7, 8, 10, 11}), (6, {0, 1, 2, 3, 7})])
def test_every_byte_that_stays_is_authenticated(version, may):
    sender, _ = both(version=version)
    signed = sender.encapsulate(packet(version, 4))
    for at in range(len(signed)):
        _, receiver = both(version=version)
        if version == 4 and at == 7:
            continue  # a fragment offset makes it a fragment
        damaged = changed_in(
            version, signed, at, 0x40 if at == 6 else 1
        )  # DF; of IPv6's first byte the traffic class
        if at in may:
            receiver.decapsulate(damaged)
        else:
            with pytest.raises(Refused):
                receiver.decapsulate(damaged)
            assert receiver.state.packets == 0


def test_ipv6_options_say_whether_they_change():
    hop_by_hop = IPv6ExtHdrHopByHop(options=[RouterAlert(), HBHOptUnknown(otype=0x3E, optdata=b"abcd")])
    destination = IPv6ExtHdrDestOpt(options=[HBHOptUnknown(otype=0x1E, optdata=b"efgh")])
    sender, _ = both(version=6)
    plain = packet(6, 9, hop_by_hop, destination)
    signed = sender.encapsulate(plain)
    assert signed[6] == 0 and signed[40] == PROTOCOL, "AH follows what routers look at (RFC 4302 3.1.1)"
    for text, fits in ((b"abcd", True), (b"efgh", False)):
        _, receiver = both(version=6)
        altered = signed.replace(text, b"ABCD")
        assert altered != signed
        if fits:
            assert receiver.decapsulate(altered) == plain.replace(text, b"ABCD")
        else:
            with refused(Reason.ICV):
                receiver.decapsulate(altered)


def test_an_ipv6_routing_header_is_signed_as_it_arrives():
    stations = ["2001:db8::a", "2001:db8::b", "2001:db8::2"]
    leaving = (
        IPv6(src="2001:db8::1", dst=stations[0])
        / IPv6ExtHdrRouting(addresses=stations[1:], segleft=2)
        / UDP()
        / b"data"
    )
    arriving = (
        IPv6(src="2001:db8::1", dst=stations[2])
        / IPv6ExtHdrRouting(addresses=stations[:2], segleft=0)
        / UDP()
        / b"data"
    )
    sender, receiver = both(version=6)
    signed = sender.encapsulate(bytes(leaving))
    header = bytes(arriving)[:80]
    arrived = header[:4] + signed[4:6] + header[6:40] + bytes([PROTOCOL]) + header[41:] + signed[80:]
    assert receiver.decapsulate(arrived)[-4:] == b"data"


@pytest.mark.parametrize(
    "change",
    [
        lambda signed: signed[:21] + b"\3" + signed[22:],
        lambda signed: signed[:21] + b"\x20" + signed[22:],
        lambda signed: signed[:9] + bytes([50]) + signed[10:],
    ],
)
def test_lengths_must_be_right(change):
    sender, receiver = both()
    with refused(Reason.MALFORMED):
        receiver.decapsulate(rewrite(change(sender.encapsulate(packet())), 20))


def test_ah_does_not_pass_a_nat():
    with pytest.raises(InputError, match="encapsulation must be None, because AH does not pass a NAT"):
        make(encapsulation=Encapsulation(4500, 4500))
