# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""ESP in software beyond what the gateware has: IPv6, one version in the other, UDP, large windows, all
ICVs.
"""

import random
from ipaddress import ip_address, ip_network

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import HBHOptUnknown, IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrHopByHop, RouterAlert
from scapy.layers.ipsec import ESP, SecurityAssociation

from spigate.firmware_py.ipsec.packet import Ip, Refused, rewrite
from spigate.firmware_py.ipsec.sa import CIPHERS, Cipher, Encapsulation, Selectors
from spigate.firmware_py.ipsec.soft_sa import SoftSa
from spigate.hdl.contract.enums import Df, Direction, Mode, Reason
from tests.firmware_py.ipsec.test_esp import SUITES, make, refused

ENDS = {4: ("192.0.2.1", "192.0.2.2"), 6: ("2001:db8::1", "2001:db8::2")}
HEADERS = {4: IP, 6: IPv6}


def both(suite="gcm128", version=6, mode=Mode.TUNNEL, permitted=None, **changes):
    source, destination = map(ip_address, ENDS[version])
    ends = {"source": source, "destination": destination}
    return (
        SoftSa(make(suite, Direction.OUTBOUND, mode, **ends, **changes)),
        SoftSa(make(suite, Direction.INBOUND, mode, **ends, **changes), permitted),
    )


def packet(version=6, size=50, payload=UDP, ends=None, **fields):
    source, destination = ends or ENDS[version]
    return bytes(
        HEADERS[version](src=source, dst=destination, **fields)
        / payload(sport=1, dport=2)
        / random.Random(size).randbytes(size)
    )


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("suite", [name for name, entry in SUITES.items() if entry[3]])
def test_agrees_with_scapy_over_ipv6(suite, mode):
    _, _, _, encryption, hmac_name = SUITES[suite]
    for size in (*range(20), 1000):
        sender, receiver = both(suite, mode=mode)
        tunnel = IPv6(src=ENDS[6][0], dst=ENDS[6][1]) if mode == Mode.TUNNEL else None
        scapy = SecurityAssociation(
            ESP,
            sender.sa.spi,
            crypt_algo=encryption,
            crypt_key=sender.sa.key + sender.sa.salt,
            crypt_icv_size=sender.sa.icv_bytes or None,
            auth_algo=hmac_name,
            auth_key=sender.sa.auth_key,
            tunnel_header=tunnel,
        )
        plain = packet(6, size)
        assert bytes(scapy.decrypt(IPv6(sender.encapsulate(plain)))) == plain
        if suite != "cbc256-sha512":
            assert receiver.decapsulate(bytes(scapy.encrypt(IPv6(plain)))) == plain


@pytest.mark.parametrize("esn", [False, True])
@pytest.mark.parametrize(("version", "inside"), [(4, 6), (6, 4), (6, 6)])
@pytest.mark.parametrize("suite", SUITES)
def test_one_version_in_the_other(suite, version, inside, esn):
    sender, receiver = both(suite, version, esn=esn, sequence=0xFFFF_FFF8 if esn else 0)
    for size in range(16):
        plain = packet(inside, size)
        sealed = sender.encapsulate(plain)
        assert sealed[0] >> 4 == version and receiver.decapsulate(sealed) == plain


@pytest.mark.parametrize(
    ("cipher", "icv"), [(cipher, icv) for cipher in CIPHERS for icv in CIPHERS[cipher].icvs]
)
def test_every_icv(cipher, icv):
    suite = {
        Cipher.AES_GCM: "gcm256",
        Cipher.AES_GMAC: "gmac256",
        Cipher.AES_CCM: "ccm128",
        Cipher.CHACHA20_POLY1305: "chapoly",
    }[cipher]
    sender, receiver = both(suite, icv_bytes=icv)
    sealed = sender.encapsulate(packet())
    assert receiver.decapsulate(sealed) == packet()
    sender, receiver = both(suite, icv_bytes=icv)
    with refused(Reason.ICV):
        receiver.decapsulate(sealed[:-1] + bytes([sealed[-1] ^ 1]))


def test_extension_headers_that_routers_look_at_stay_in_front():
    """RFC 4303 3.1.1."""
    options = (
        IPv6ExtHdrHopByHop(options=[RouterAlert()]),
        IPv6ExtHdrDestOpt(options=[HBHOptUnknown(otype=0x1E, optdata=b"abcd")]),
    )
    plain = bytes(IPv6(src=ENDS[6][0], dst=ENDS[6][1]) / options[0] / options[1] / UDP() / b"data")
    sender, receiver = both(mode=Mode.TRANSPORT)
    sealed = sender.encapsulate(plain)
    assert sealed[40] == 50 and b"abcd" not in sealed
    assert receiver.decapsulate(sealed) == plain
    behind = both(mode=Mode.TRANSPORT)[1]
    after = bytes(IPv6(sealed[:48]) / options[1] / sealed[48:])  # a destination option that stands before ESP
    after = rewrite(
        after[:40] + bytes([60]) + after[41:48] + bytes([50]) + after[49:], 40, total_length=len(after)
    )
    assert Ip.parse(after).protocol == 50 and behind.decapsulate(after)[-4:] == b"data"


def test_an_sa_carries_the_versions_that_its_selectors_name():
    only = [Selectors(ip_network("::/0"), ip_network("::/0"))]
    sender, receiver = both(version=4, permitted=only)
    receiver.decapsulate(sender.encapsulate(packet(6)))
    with refused(Reason.PADDING):
        receiver.decapsulate(sender.encapsulate(packet(4)))


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("suite", ["gcm128", "cbc128-sha1", "chapoly"])
def test_in_udp(suite, version):
    """RFC 3948: no checksum over IPv4; RFC 8200 8.1: one over IPv6."""
    sender, receiver = both(suite, version, encapsulation=Encapsulation(4500, 4501))
    sealed = sender.encapsulate(packet(4))
    datagram = HEADERS[version](sealed)[UDP]
    assert (datagram.sport, datagram.dport, datagram.len) == (
        4500,
        4501,
        len(sealed) - {4: 20, 6: 40}[version],
    )
    if version == 4:
        assert datagram.chksum == 0
    else:
        again = IPv6(sealed)
        del again[UDP].chksum
        assert IPv6(bytes(again))[UDP].chksum == datagram.chksum
    assert receiver.decapsulate(sealed) == packet(4)
    bare = (
        rewrite(sealed[:20] + sealed[28:], 20, protocol=50, total_length=len(sealed) - 8)
        if version == 4
        else sealed[:60]
    )
    with refused(Reason.MALFORMED):
        receiver.decapsulate(bare)


@pytest.mark.parametrize("payload", [UDP, TCP])
def test_transport_mode_through_a_nat_gets_a_right_checksum(payload):
    """RFC 3948 3.1.2."""
    sender, receiver = both(version=4, mode=Mode.TRANSPORT, encapsulation=Encapsulation(4500, 4500))
    sealed = bytearray(sender.encapsulate(packet(4, payload=payload)))
    sealed[12:16] = ip_address("203.0.113.7").packed
    plain = receiver.decapsulate(rewrite(bytes(sealed), 20))
    assert plain == packet(4, payload=payload, ends=("203.0.113.7", ENDS[4][1]))


@pytest.mark.parametrize("size", [1, 32, 64, 256, 1024, 4096])
def test_windows(size):
    sender, receiver = both("gcm128", 4, replay_window=size, sequence=100_000)
    first = sender._window.sequence
    sealed = {}
    for number in (first + 1, first + 2, first + size, first + size + 1):
        sender._window.sequence = number - 1
        sealed[number] = sender.encapsulate(packet(4))
    receiver.decapsulate(sealed[first + size + 1])
    with refused(Reason.REPLAY):
        receiver.decapsulate(sealed[first + 1])  # left of it
    if size > 1:
        receiver.decapsulate(sealed[first + 2])
        receiver.decapsulate(sealed[first + size])
    for number in sealed:
        with refused(Reason.REPLAY):
            receiver.decapsulate(sealed[number])


def test_numbers_around_the_wrap_in_any_order():
    """RFC 4303 appendix A: a window over two subspaces."""
    start = (5 << 32) - 40
    sender, receiver = both("gcm128", 6, esn=True, replay_window=128, sequence=start)
    sealed = [sender.encapsulate(packet()) for _ in range(80)]
    order = random.Random(1).sample(range(80), 80)
    for at in order:
        receiver.decapsulate(sealed[at])
    assert receiver.state.sequence == start + 80 and receiver.state.packets == 80
    for at in order:
        with refused(Reason.REPLAY):
            receiver.decapsulate(sealed[at])


def test_dummy_packets_and_confidentiality_padding():
    """RFC 4303 2.6, 2.7: in tunnels of either version."""
    for inside in (4, 6):
        sender, receiver = both(version=6)
        header = sender.encapsulate(packet(inside))[:40]
        padded = sender._protocol.wrap(header, 6, 2, b"", packet(inside) + bytes(100), {4: 4, 6: 41}[inside])
        assert receiver.decapsulate(padded) == packet(inside)
        with refused(Reason.DUMMY):
            receiver.decapsulate(sender._protocol.wrap(header, 6, 3, b"", b"anything", 59))


def test_packets_are_padded_to_one_length():
    """RFC 4303 2.7: as far as they fit, and never cut."""
    sender, receiver = both(tfc=400)
    lengths = set()
    for size in (0, 100, 300, 500):
        sealed = sender.encapsulate(packet(6, size), mtu=1280)
        lengths.add(len(sealed))
        assert receiver.decapsulate(sealed) == packet(6, size)
    assert len(lengths) == 2
    sender, receiver = both(tfc=2000)
    assert 1276 < len(sender.encapsulate(packet(4), mtu=1280)) <= 1280


@pytest.mark.parametrize(("inner", "outer", "after"), [(2, 3, 3), (1, 3, 3), (2, 1, 1), (0, 0, 0), (1, 2, 1)])
@pytest.mark.parametrize(("version", "inside"), [(4, 6), (6, 4), (6, 6)])
def test_congestion_marks_between_versions(version, inside, inner, outer, after):
    sender, receiver = both(version=version)
    field = {4: "tos", 6: "tc"}[inside]
    sealed = sender.encapsulate(packet(inside, **{field: 0xB8 | inner}))
    assert Ip.parse(sealed).tos == 0xB8 | inner
    plain = receiver.decapsulate(rewrite(sealed, {4: 20, 6: 40}[version], tos=0xB8 | outer))
    assert plain == packet(inside, **{field: 0xB8 | after})


@pytest.mark.parametrize("mtu", [600, 1280, 1499, 1500, 9000])
@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("suite", SUITES)
def test_room(suite, version, mode, mtu):
    """The longest packet that fits is as long as is said, and one byte more does not fit."""
    sender, _ = both(suite, version, mode)
    header = {4: 20, 6: 40}[version]
    room = sender.room(mtu, header)
    for more, fits in ((0, True), (1, False)):
        made = packet(version, room + more - header - 8)
        assert len(made) == room + more and (len(sender.encapsulate(made)) <= mtu) == fits


def test_what_cannot_be_sealed():
    sender, _ = both(mode=Mode.TRANSPORT)
    with refused(Reason.MALFORMED):
        sender.encapsulate(packet(4))
    sender, _ = both(version=4)
    longest = bytes(IP(len=0xFFFF) / bytes(0xFFFF - 20))
    with refused(Reason.TOO_BIG):
        sender.encapsulate(longest)
    assert sender.state.sequence == 0


def test_outer_header_over_ipv6():
    sender, _ = both(version=6, outer_ttl=7, copy_tos=False, outer_tos=0x28, df=Df.SET)
    outer = IPv6(sender.encapsulate(packet(4)))
    assert (outer.hlim, outer.tc, outer.fl, outer.nh) == (7, 0x28, 0, 50)


def test_icmp_has_no_ports():
    allowed = [Selectors(ip_network("::/0"), ip_network("::/0"), 58)]
    sender, receiver = both(permitted=allowed)
    ping = bytes(IPv6(src=ENDS[6][0], dst=ENDS[6][1], nh=58) / b"\x80\0\0\0\0\0\0\0")
    assert receiver.decapsulate(sender.encapsulate(ping)) == ping
    with refused(Reason.POLICY):
        receiver.decapsulate(sender.encapsulate(packet(6)))


def test_fragments_are_not_opened():
    _, receiver = both(version=4)
    with pytest.raises(Refused, match="^malformed$"):
        receiver.decapsulate(bytes(IP(src=ENDS[4][0], dst=ENDS[4][1], proto=50, flags=1) / bytes(80)))
