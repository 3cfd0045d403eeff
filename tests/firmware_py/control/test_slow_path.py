# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The control element's own way of a packet: IPv6, ESP in UDP, fragments, path MTU, SAs inside others."""

from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import ICMPv6PacketTooBig, ICMPv6TimeExceeded, IPv6, IPv6ExtHdrFragment

from spigate.firmware_py.control.routing import PATH_MTU_AGE_S
from spigate.firmware_py.control.settings import Settings
from spigate.firmware_py.control.slow_path import ERROR_BURST
from spigate.firmware_py.control.topology import Interface, Neighbour, NetworkRoute, Topology
from spigate.firmware_py.ipsec.fragments import Reassembly, fragments
from spigate.firmware_py.ipsec.packet import ETHERTYPES, Ethernet, Ip, rewrite
from spigate.firmware_py.ipsec.policy import Policy, PolicyAction, PolicyDirection, Template
from spigate.firmware_py.ipsec.sa import AH, ESP, Auth, Cipher, Encapsulation, Lifetime, Sa, Selectors
from spigate.firmware_py.ipsec.soft_sa import SoftSa
from spigate.firmware_py.tables.interface import GATEWARE, SOFTWARE, CfeSettings, Source
from spigate.hdl.contract.enums import Df, Direction, Mode, Port, Reason
from spigate.hdl.net.packet import ALIGN, MAX_FRAME
from tests.firmware_py.control.network import INSIDE_MAC, LINUX, PEER_MAC, SELF_MAC, SERVERS, Bench, mac

PEER = {4: ip_address("192.0.2.1"), 6: ip_address("2001:db8::1")}
SELF = {4: ip_address("192.0.2.2"), 6: ip_address("2001:db8::2")}
THERE = {4: "10.1.0.10", 6: "2001:db8:1::10"}
HERE = {4: "10.2.0.10", 6: "2001:db8:2::10"}
NETWORKS = {4: ("10.1.0.0/24", "10.2.0.0/24"), 6: ("2001:db8:1::/64", "2001:db8:2::/64")}
SERVER_MAC = SERVERS["10.2.0.10"]
TOPOLOGY = Topology(
    [
        Interface(
            "outside",
            Port.NETWORK,
            mac(SELF_MAC),
            (ip_interface("192.0.2.2/24"), ip_interface("2001:db8::2/64"), ip_interface("fe80::2/64")),
        ),
        Interface(
            "inside",
            Port.SERVER,
            mac(INSIDE_MAC),
            (ip_interface("10.2.0.1/24"), ip_interface("fe80::1/64"), ip_interface("2001:db8:2::1/64")),
        ),
    ],
    [
        *(Neighbour(PEER[version], Port.NETWORK, mac(PEER_MAC)) for version in (4, 6)),
        *(Neighbour(ip_address(HERE[version]), Port.SERVER, mac(SERVER_MAC)) for version in (4, 6)),
    ],
    [
        NetworkRoute(ip_network("10.1.0.0/16"), Port.NETWORK, PEER[4]),
        NetworkRoute(ip_network("2001:db8:1::/64"), Port.NETWORK, PEER[6]),
    ],
)
HEADERS = {4: IP, 6: IPv6}
IN, OUT, FORWARD = PolicyDirection.IN, PolicyDirection.OUT, PolicyDirection.FORWARD


def sa(spi=0x1000, direction=Direction.INBOUND, version=4, **changes):
    ends = (PEER[version], SELF[version])
    return Sa(
        **{
            "direction": direction,
            "spi": spi,
            "source": ends[direction],
            "destination": ends[1 - direction],
            "mode": Mode.TUNNEL,
            "cipher": Cipher.AES_GCM,
            "key": spi.to_bytes(16),
            "salt": b"salt",
            "icv_bytes": 16,
            "reqid": 1,
            **changes,
        }
    )


def ah(spi, direction=Direction.INBOUND, **changes):
    return sa(
        spi,
        direction,
        protocol=AH,
        cipher=Cipher.NULL,
        key=b"",
        salt=b"",
        icv_bytes=0,
        auth=Auth.HMAC_SHA1_96,
        auth_key=bytes(20),
        **changes,
    )


def template(direction, version=4, protocol=ESP, reqid=1, mode=Mode.TUNNEL):
    ends = (SELF, PEER) if direction == OUT else (PEER, SELF)
    return Template(
        source=ends[0][version], destination=ends[1][version], mode=mode, protocol=protocol, reqid=reqid
    )


def policy(direction, inside=4, templates=None, version=4, **ports):
    networks = [ip_network(network) for network in NETWORKS[inside]]
    if direction == OUT:
        networks.reverse()
    return Policy(
        selectors=Selectors(*networks, **ports),
        direction=direction,
        action=PolicyAction.PROTECT,
        templates=tuple(templates or [template(direction, version)]),
    )


INBOUND, OUTBOUND = sa(), sa(0x1001, Direction.OUTBOUND)
POLICIES = [policy(FORWARD), policy(IN), policy(OUT)]


def bench(sas=(INBOUND, OUTBOUND), policies=POLICIES, capabilities=SOFTWARE, **more):
    return Bench(sas, policies, capabilities, TOPOLOGY, **more)


def network_frame(packet):
    return Ethernet(mac(SELF_MAC), mac(PEER_MAC), ETHERTYPES[packet[0] >> 4]).pack() + packet


def server_frame(packet):
    return Ethernet(mac(INSIDE_MAC), mac(SERVER_MAC), ETHERTYPES[packet[0] >> 4]).pack() + packet


def udp(source, destination, size=20, sport=1000, dport=2000, **fields):
    header = IPv6 if ":" in source else IP
    return bytes(
        header(src=source, dst=destination, **fields)
        / UDP(sport=sport, dport=dport)
        / bytes(range(256)).ljust(size, b"x")[:size]
    )


def incoming(version=4, size=20, **fields):
    return udp(THERE[version], HERE[version], size, **fields)


def outgoing(version=4, size=20, **fields):
    return udp(HERE[version], THERE[version], size, **fields)


def peer(one):
    return SoftSa(replace(one, direction=Direction(1 - one.direction)))


def opened(frames, *sas):
    """The packets of ``frames``, put together and opened with SAs from the outermost in."""
    reassembly, found = Reassembly(), []
    openers = [peer(one) for one in sas]
    for frame in frames:
        packet = frame[14:]
        ip = Ip.parse(packet)
        packet = reassembly.add(packet, ip, 0.0) if ip.fragment else packet
        if packet:
            for opener in openers:
                packet = opener.decapsulate(packet)
            found.append(packet)
    return found


def routed(packet):
    ip = Ip.parse(packet)
    return rewrite(packet, ip.header_bytes, ttl=ip.ttl - 1)


# IPv6 in the clear


def test_ipv6_is_routed():
    made = bench((), ())
    _, out = made.feed(Port.NETWORK, network_frame(incoming(6)))
    assert out == [Ethernet(mac(SERVER_MAC), mac(INSIDE_MAC), 0x86DD).pack() + routed(incoming(6))]
    out, _ = made.feed(Port.SERVER, server_frame(outgoing(6)))
    assert out == [Ethernet(mac(PEER_MAC), mac(SELF_MAC), 0x86DD).pack() + routed(outgoing(6))]
    assert made.control.software == {"bypassed": 2}


@pytest.mark.parametrize(
    ("destination", "what"),
    [("2001:db8:2::1", "local"), ("ff02::1", "local"), ("fe80::99", "local"), ("2001:db8:9::1", "no_route")],
)
def test_ipv6_that_is_not_routed(destination, what):
    made = bench((), ())
    assert made.feed(Port.SERVER, server_frame(udp(HERE[6], destination))) == ([], [])
    assert made.control.consumed == {what: 1}


def test_ipv6_policies_hold():
    made = bench(
        (sa(version=6), sa(0x1001, Direction.OUTBOUND, 6)),
        [policy(direction, 6, version=6) for direction in (FORWARD, IN, OUT)],
    )
    assert made.feed(Port.NETWORK, network_frame(incoming(6))) == ([], []), (
        "what should be protected comes in the clear"
    )
    assert made.loop.drops == {Reason.POLICY: 1}
    out, _ = made.feed(Port.SERVER, server_frame(outgoing(6)))
    assert opened(out, sa(0x1001, Direction.OUTBOUND, 6)) == [routed(outgoing(6))]
    strict = bench((), (), settings=Settings(default=PolicyAction.DISCARD))
    assert strict.feed(Port.NETWORK, network_frame(incoming(6))) == ([], []) and strict.loop.drops == {
        Reason.POLICY: 1
    }


def test_rules_of_the_gateway_stay_ipv4():
    made = bench(
        (), [policy(OUT, 6, version=6), *POLICIES], GATEWARE, settings=Settings(default=PolicyAction.DISCARD)
    )
    made.feed(Port.NETWORK, network_frame(udp("10.7.0.1", HERE[4])))
    assert made.loop.drops == {Reason.POLICY: 1}
    assert all(rule.selectors.source.version == 4 for rule in made.gateway._rules)


def test_ipv6_sources_that_may_speak():
    source = Source(ip_network("2001:db8:1::/64"), frozenset({Port.NETWORK}))
    made = bench((), (), settings=replace(LINUX, sources=(source,)))
    assert len(made.feed(Port.NETWORK, network_frame(incoming(6)))[1]) == 1
    assert made.feed(Port.NETWORK, network_frame(udp("2001:db8:7::1", HERE[6]))) == ([], [])
    assert made.loop.drops == {Reason.POLICY: 1}


# What routers say


@pytest.mark.parametrize("version", [4, 6])
def test_time_exceeded(version):
    made = bench((), ())
    lifetime = {4: "ttl", 6: "hlim"}[version]
    _, out = made.feed(Port.SERVER, server_frame(outgoing(version, **{lifetime: 1})))
    assert out[0][:14] == Ethernet(mac(SERVER_MAC), mac(INSIDE_MAC), ETHERTYPES[version]).pack()
    message = HEADERS[version](out[0][14:])
    assert (message.src, message.dst) == ({4: "10.2.0.1", 6: "2001:db8:2::1"}[version], HERE[version])
    if version == 4:
        assert (message[ICMP].type, message[ICMP].code) == (11, 0)
        assert bytes(message) == bytes(IP(bytes(message)))
        del message[ICMP].chksum
    else:
        del message[ICMPv6TimeExceeded].cksum
    assert bytes(HEADERS[version](bytes(message))) == out[0][14:], "its checksum is right"
    assert outgoing(version, **{lifetime: 1}) in out[0]
    assert made.control.consumed == {"ttl_expired": 1} and made.control.made == {"icmp": 1}


@pytest.mark.parametrize(
    "packet",
    [
        bytes(IP(src=HERE[4], dst=THERE[4], ttl=1) / ICMP(type=11)),
        bytes(IP(src="224.0.0.1", dst=THERE[4], ttl=1) / UDP()),
        bytes(IP(src="0.0.0.0", dst=THERE[4], ttl=1) / UDP()),
        bytes(IPv6(src=HERE[6], dst=THERE[6], hlim=1) / ICMPv6TimeExceeded()),
        bytes(IP(src=HERE[4], dst=THERE[4], ttl=1, frag=5) / bytes(8)),
    ],
)
def test_no_errors_about_errors(packet):
    """RFC 1122 3.2.2, RFC 4443 2.4."""
    made = bench((), ())
    assert made.feed(Port.SERVER, server_frame(packet)) == ([], [])
    assert not made.control.made


def test_errors_are_limited():
    made = bench((), ())
    frames = [server_frame(outgoing(ttl=1, id=number)) for number in range(2 * ERROR_BURST)]
    assert len(made.feed(Port.SERVER, *frames)[1]) == ERROR_BURST
    made.now += 1
    assert len(made.feed(Port.SERVER, *frames)[1]) == ERROR_BURST


# Path MTU (RFC 4301 8)


@pytest.mark.parametrize(("version", "inside"), [(4, 4), (4, 6), (6, 4), (6, 6)])
def test_too_big_for_the_tunnel(version, inside):
    outbound = sa(0x1001, Direction.OUTBOUND, version)
    made = bench((outbound,), [policy(OUT, inside, version=version)])
    fields = {"flags": "DF"} if inside == 4 else {}
    out, back = made.feed(Port.SERVER, server_frame(outgoing(inside, 1450, **fields)))
    assert out == [] and made.control.consumed == {"too_big": 1}
    message = HEADERS[inside](back[0][14:])
    mtu = message[ICMP].nexthopmtu if inside == 4 else message[ICMPv6PacketTooBig].mtu
    header = {4: 28, 6: 48}[inside]
    for size, fits in ((mtu - header, True), (mtu - header + 1, False)):
        out, _ = made.feed(Port.SERVER, server_frame(outgoing(inside, size, **fields)))
        assert len(out) == fits and all(len(frame) <= 1514 for frame in out)


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize(
    ("df", "flags", "inner_pieces"), [(Df.COPY, 0, 1), (Df.CLEAR, "DF", 1), (Df.SET, 0, 2)]
)
def test_too_big_goes_in_pieces(version, df, flags, inner_pieces):
    outbound = sa(0x1001, Direction.OUTBOUND, version, df=df)
    made = bench((outbound,), [policy(OUT, version=version)])
    plain = outgoing(size=1470, flags=flags)
    out, _ = made.feed(Port.SERVER, server_frame(plain))
    assert len(out) == 2 and all(len(frame) <= 1514 for frame in out) and made.control.made == {"fragment": 1}
    inner = opened(out, outbound)
    assert len(inner) == inner_pieces
    whole = (
        inner
        if inner_pieces == 1
        else [Reassembly().add(piece, Ip.parse(piece), 0.0) for piece in inner][-1:]
    )
    if inner_pieces == 1:
        assert whole == [routed(plain)]


def test_fragments_of_ah_keep_what_it_has_signed():
    outbound = ah(0x1001, Direction.OUTBOUND, sequence=500)
    made = bench((outbound,), [policy(OUT, templates=[template(OUT, protocol=AH)])])
    plain = outgoing(size=1470)
    out, _ = made.feed(Port.SERVER, server_frame(plain))
    assert len(out) == 2 and opened(out, outbound) == [routed(plain)]


def test_decryptors_send_too_big_packets_up():
    made = bench(capabilities=GATEWARE)
    out, _ = made.feed(Port.SERVER, server_frame(outgoing()))
    assert opened(out, OUTBOUND) == [routed(outgoing())] and not made.control.software
    out, back = made.feed(Port.SERVER, server_frame(outgoing(size=1450, flags="DF")))
    assert out == [] and IP(back[0][14:])[ICMP].nexthopmtu == 1446 and not made.control.refusals
    first, _ = made.feed(Port.SERVER, server_frame(outgoing(size=1450)))
    assert len(first) == 2 and made.control.refusals == {OUTBOUND: "packets that no DFE can do"}
    assert opened(first, OUTBOUND) == [routed(outgoing(size=1450))]
    assert made.control.placed(OUTBOUND).soft.state.sequence == 2, "no number twice, and none left out"
    assert opened(made.feed(Port.SERVER, server_frame(outgoing()))[0], OUTBOUND) == [routed(outgoing())]


@pytest.mark.parametrize(("version", "capabilities"), [(4, SOFTWARE), (4, GATEWARE), (6, SOFTWARE)])
def test_what_the_path_takes_is_learned(version, capabilities):
    outbound = sa(0x1001, Direction.OUTBOUND, version)
    made = bench((outbound,), [policy(OUT, version=version)], capabilities)
    plain = outgoing(size=1300, flags="DF")
    (sealed,) = made.feed(Port.SERVER, server_frame(plain))[0]
    foreign = (
        rewrite(sealed[14:34], 20)[:20] + bytes([9]) + sealed[35:]
        if version == 4
        else sealed[14:54] + bytes([9]) + sealed[55:]
    )
    for quoted, believed in ((foreign, False), (sealed[14:], True)):
        error = (
            IP(src="198.51.100.1", dst=str(SELF[4])) / ICMP(type=3, code=4, nexthopmtu=1300) / quoted[:28]
            if version == 4
            else IPv6(src="2001:db8::99", dst=str(SELF[6])) / ICMPv6PacketTooBig(mtu=1300) / quoted[:1000]
        )
        assert made.feed(Port.NETWORK, network_frame(bytes(error))) == ([], [])
        out, back = made.feed(Port.SERVER, server_frame(plain))
        assert len(out) == (not believed) and len(back) == believed
    made.now += PATH_MTU_AGE_S
    assert len(made.feed(Port.SERVER, server_frame(plain))[0]) == 1


# Fragments


def test_fragments_for_a_decryptor_go_to_it_whole():
    made = bench(capabilities=GATEWARE)
    sealed = peer(INBOUND).encapsulate(incoming(size=1450))
    _, out = made.feed(Port.NETWORK, *map(network_frame, reversed(fragments(sealed, 1000, 5))))
    assert [frame[14:] for frame in out] == [routed(incoming(size=1450))]
    assert made.control.consumed == {"fragment": 1} and not made.control.refusals


def test_the_longest_frame_is_the_gatewares():
    assert GATEWARE.frame_bytes == MAX_FRAME - ALIGN


def test_what_is_too_long_for_a_decryptor_is_done_here():
    made = bench(capabilities=GATEWARE)
    sender = peer(INBOUND)
    for size in (100, 4000, 100):
        sealed = sender.encapsulate(incoming(size=size))
        _, out = made.feed(Port.NETWORK, *map(network_frame, fragments(sealed, 1500, size)))
        assert opened(out) == [routed(incoming(size=size))]
    assert list(made.control.refusals) == [INBOUND] and made.control.placed(INBOUND).soft.state.packets == 3
    assert made.feed(Port.NETWORK, *map(network_frame, fragments(sealed, 1500, 9))) == ([], [])
    assert made.loop.drops == {Reason.REPLAY: 1}


@pytest.mark.parametrize("capabilities", [GATEWARE, SOFTWARE])
def test_clear_fragments_pass_as_they_are_where_no_policy_looks_at_ports(capabilities):
    made = bench(capabilities=capabilities)
    pieces = fragments(outgoing(size=3000), 1000)
    out, _ = made.feed(Port.SERVER, *map(server_frame, pieces))
    assert opened(out, OUTBOUND) == [routed(piece) for piece in pieces]
    assert not made.control.consumed


def test_where_a_policy_looks_at_ports_packets_are_put_together_first():
    """RFC 4301 7.1: a later fragment has none."""
    ports = {"protocol": 17, "destination_ports": (2000, 2000)}
    made = bench(policies=[policy(OUT, **ports)])
    fitting, other = outgoing(size=2500), outgoing(size=2500, dport=9)
    out, _ = made.feed(Port.SERVER, *map(server_frame, fragments(fitting, 1000)))
    assert opened(out, OUTBOUND) == [routed(fitting)]
    out, _ = made.feed(Port.SERVER, *map(server_frame, fragments(other, 1000)))
    assert opened(out) == [routed(other)], "in the clear"


@pytest.mark.parametrize("version", [4, 6])
def test_an_sa_for_some_ports_carries_no_later_fragments(version):
    """RFC 4301 7.2: nobody has told us that it may."""
    inbound = sa(version=version)
    made = bench(
        (inbound,), [policy(FORWARD, version, version=version, protocol=17, destination_ports=(2000, 2000))]
    )
    whole = incoming(version, 900)
    parts = fragments(whole, 600, 3)
    sender = peer(inbound)
    _, out = made.feed(Port.NETWORK, *(network_frame(sender.encapsulate(part)) for part in [*parts, whole]))
    assert [frame[14:] for frame in out] == [routed(parts[0]), routed(whole)] and made.loop.drops == {
        Reason.POLICY: 1
    }


@pytest.mark.parametrize("mode", list(Mode))
def test_ipv6_that_was_put_together_for_its_ports_leaves_in_pieces(mode):
    """Nobody could send it smaller: it came in fragments."""
    ports = {"protocol": 17, "destination_ports": (2000, 2000)}
    outbound = sa(0x1001, Direction.OUTBOUND, 6, mode=mode)
    if mode == Mode.TUNNEL:
        whole, what = outgoing(6, 3000), policy(OUT, 6, version=6, **ports)
    else:
        whole = udp(str(SELF[6]), str(PEER[6]), 3000)
        ends = Selectors(ip_network(SELF[6]), ip_network(PEER[6]), **ports)
        what = Policy(
            selectors=ends,
            direction=OUT,
            action=PolicyAction.PROTECT,
            templates=(template(OUT, 6, mode=mode),),
        )
    made = bench((outbound,), [what])
    out, back = made.feed(Port.SERVER, *map(server_frame, fragments(whole, 1280, 7)))
    assert not back and len(out) > 1 and max(map(len, out)) <= 1514
    inside = opened(out, outbound)
    reassembly = Reassembly()
    if mode == Mode.TUNNEL:
        inside = [reassembly.add(piece, Ip.parse(piece), 0.0) for piece in inside][-1:]
    assert [packet[8:] for packet in inside] == [whole[8:]]


def test_ipv6_that_was_decrypted_in_fragments_leaves_in_fragments():
    inbound = sa(version=6)
    block = Policy(
        selectors=Selectors(*map(ip_network, NETWORKS[6]), 17, destination_ports=(53, 53)),
        direction=FORWARD,
        action=PolicyAction.DISCARD,
    )
    made = bench((inbound,), [block, policy(FORWARD, 6, version=6)])
    whole, sender = incoming(6, 3000), peer(inbound)
    _, out = made.feed(
        Port.NETWORK, *(network_frame(sender.encapsulate(piece)) for piece in fragments(whole, 1280, 7))
    )
    reassembly = Reassembly()
    assert [reassembly.add(one[14:], Ip.parse(one[14:]), 0.0) for one in out][-1][8:] == whole[
        8:
    ] and made.loop.drops == {}


def test_ipv6_fragments_for_this_gateway():
    inbound = sa(version=6)
    made = bench((inbound,), [policy(FORWARD, 6, version=6)])
    sealed = peer(inbound).encapsulate(incoming(6, 2000))
    parts = fragments(sealed, 1280, 77)
    assert all(IPv6ExtHdrFragment in IPv6(part) for part in parts)
    out, back = made.feed(Port.NETWORK, *map(network_frame, parts))
    assert made.control.consumed == {"fragment": 1, "too_big": 1} and back == [], (
        "who sent it hears so, by the tunnel, if there is one"
    )


# SAs inside others


def bundle():
    """ESP inside AH, in transport mode between the gateway's own address and the peer's."""
    sas = (
        sa(0x2000, mode=Mode.TRANSPORT, reqid=1),
        ah(0x2002, mode=Mode.TRANSPORT, reqid=2),
        sa(0x2001, Direction.OUTBOUND, mode=Mode.TRANSPORT, reqid=1),
        ah(0x2003, Direction.OUTBOUND, mode=Mode.TRANSPORT, reqid=2),
    )
    hosts = [ip_network(PEER[4]), ip_network(SELF[4])]
    policies = [
        Policy(
            selectors=Selectors(*(hosts if direction == IN else hosts[::-1])),
            direction=direction,
            action=PolicyAction.PROTECT,
            templates=(
                template(direction, mode=Mode.TRANSPORT),
                template(direction, protocol=AH, reqid=2, mode=Mode.TRANSPORT),
            ),
        )
        for direction in (IN, OUT)
    ]
    return sas, policies


def test_a_bundle_both_ways():
    sas, policies = bundle()
    made = bench(sas, policies, GATEWARE)
    plain = udp(str(PEER[4]), str(SELF[4]), 300)
    esp, outer = peer(sas[0]), peer(sas[1])
    _, out = made.feed(Port.NETWORK, network_frame(outer.encapsulate(esp.encapsulate(plain))))
    assert [frame[14:] for frame in out] == [plain]
    answer = udp(str(SELF[4]), str(PEER[4]), 300)
    out, _ = made.feed(Port.SERVER, network_frame(answer))
    assert opened(out, sas[3], sas[2]) == [answer]
    assert made.feed(Port.NETWORK, network_frame(esp.encapsulate(plain))) == ([], []), "without AH"
    assert made.loop.drops == {Reason.POLICY: 1}
    assert made.feed(Port.NETWORK, network_frame(outer.encapsulate(plain))) == ([], []), "without ESP"
    assert made.loop.drops == {Reason.POLICY: 2}


def test_layers_have_a_limit():
    sas, policies = bundle()
    made = bench(sas, policies, settings=Settings(cfe=CfeSettings(depth_limit=0)))
    plain = udp(str(PEER[4]), str(SELF[4]))
    assert made.feed(
        Port.NETWORK, network_frame(peer(sas[1]).encapsulate(peer(sas[0]).encapsulate(plain)))
    ) == ([], [])
    assert made.loop.drops == {Reason.NESTED: 1}


@pytest.mark.parametrize("capabilities", [GATEWARE, SOFTWARE])
def test_tunnels_inside_tunnels_by_policies_of_their_own(capabilities):
    """A host-to-host tunnel in which another one happens to be."""
    outer = sa(0x4000, reqid=4)
    between = Selectors(ip_network(PEER[4]), ip_network(SELF[4]))
    policies = [
        *POLICIES,
        Policy(
            selectors=between, direction=IN, action=PolicyAction.PROTECT, templates=(template(IN, reqid=4),)
        ),
    ]
    made = bench((INBOUND, outer), policies, capabilities)
    wrapped = peer(outer).encapsulate(peer(INBOUND).encapsulate(incoming()))
    _, out = made.feed(Port.NETWORK, network_frame(wrapped))
    assert [frame[14:] for frame in out] == [routed(incoming())]


def test_from_one_tunnel_into_the_other():
    """What is decrypted meets the outbound policies."""
    spoke = sa(0x3001, Direction.OUTBOUND, reqid=7)
    there, far = ip_network("10.1.0.0/24"), ip_network("10.1.9.0/24")
    policies = [
        Policy(
            selectors=Selectors(there, far),
            direction=FORWARD,
            action=PolicyAction.PROTECT,
            templates=(template(FORWARD),),
        ),
        Policy(
            selectors=Selectors(there, far),
            direction=OUT,
            action=PolicyAction.PROTECT,
            templates=(template(OUT, reqid=7),),
        ),
    ]
    made = bench((INBOUND, spoke), policies)
    plain = udp(THERE[4], "10.1.9.9")
    out, _ = made.feed(Port.NETWORK, network_frame(peer(INBOUND).encapsulate(plain)))
    assert opened(out, spoke) == [routed(plain)]


# ESP in UDP


@pytest.mark.parametrize("version", [4, 6])
def test_esp_in_udp_both_ways(version):
    sas = [
        replace(one, encapsulation=Encapsulation(4500, 4500))
        for one in (sa(version=version), sa(0x1001, Direction.OUTBOUND, version))
    ]
    made = bench(sas, [policy(direction, version=version) for direction in (FORWARD, IN, OUT)], GATEWARE)
    _, out = made.feed(Port.NETWORK, network_frame(peer(sas[0]).encapsulate(incoming())))
    assert [frame[14:] for frame in out] == [routed(incoming())]
    out, _ = made.feed(Port.SERVER, server_frame(outgoing()))
    assert opened(out, sas[1]) == [routed(outgoing())] and HEADERS[version](out[0][14:])[UDP].dport == 4500


@pytest.mark.parametrize(
    ("payload", "counted"),
    [
        (b"\xff", ("consumed", "keepalive")),
        (bytes(12), ("consumed", "ike")),
        (b"\0\0\0\1" + bytes(30), ("drops", Reason.RESERVED_SPI)),
        (b"\0\0\x99\1" + bytes(30), ("drops", Reason.NO_SA)),
        (b"\xff\xff", ("drops", Reason.MALFORMED)),
    ],
)
@pytest.mark.parametrize("version", [4, 6])
def test_what_else_comes_to_port_4500(version, payload, counted):
    made = bench()
    made.feed(
        Port.NETWORK,
        network_frame(
            bytes(
                HEADERS[version](src=str(PEER[version]), dst=str(SELF[version]))
                / UDP(sport=9, dport=4500)
                / payload
            )
        ),
    )
    assert getattr(made.control if counted[0] == "consumed" else made.loop, counted[0]) == {counted[1]: 1}


def test_in_udp_or_not_is_not_the_senders_choice():
    for inbound in (INBOUND, replace(INBOUND, encapsulation=Encapsulation(4500, 4500))):
        made = bench((inbound,))
        other = replace(inbound, encapsulation=None if inbound.encapsulation else Encapsulation(4500, 4500))
        assert made.feed(Port.NETWORK, network_frame(peer(other).encapsulate(incoming()))) == ([], [])
        assert made.loop.drops == {Reason.NO_SA: 1}


def test_esp_in_udp_for_somebody_else_passes():
    made = bench()
    datagram = udp("10.7.0.1", HERE[4], 40, sport=4500, dport=4500)
    _, out = made.feed(Port.NETWORK, network_frame(datagram))
    assert [frame[14:] for frame in out] == [routed(datagram)]


# Events


def test_the_software_path_tells_too():
    inbound = replace(INBOUND, soft=Lifetime(packets=1))
    made = bench((inbound,))
    sealed = network_frame(peer(inbound).encapsulate(incoming()))
    made.feed(Port.NETWORK, sealed, sealed)
    events = made.do(made.control.poll())
    assert [(event.reason, event.dropped, event.spi, event.sequence, one) for event, one in events] == [
        (Reason.SOFT_LIFETIME, False, 0x1000, 1, inbound),
        (Reason.REPLAY, True, 0x1000, 1, inbound),
    ]
    assert made.do(made.control.poll()) == []
