# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The small network with both families of addresses, and SAs, policies and packets of either; its control
element does all SAs in software where nothing else is said.
"""

from ipaddress import ip_address, ip_interface, ip_network

from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6

from spigate.firmware_py.control.topology import Interface, Neighbour, NetworkRoute, Topology
from spigate.firmware_py.ipsec.packet import ETHERTYPES, Ethernet
from spigate.firmware_py.ipsec.policy import Policy, PolicyAction, Template
from spigate.firmware_py.ipsec.sa import Auth, Cipher, Selectors
from spigate.firmware_py.tables.interface import SOFTWARE
from spigate.hdl.contract.enums import Direction, Mode, Port
from spigate.hdl.contract.protocols import AH, ESP
from tests.firmware_py.control.network import (
    ENDS,
    FORWARD,
    IN,
    INSIDE_MAC,
    OUT,
    PEER_MAC,
    SELF_MAC,
    SERVERS,
    Bench,
    mac,
    sa,
)

PEER, SELF = ({version: ip_address(ends[at]) for version, ends in ENDS.items()} for at in (0, 1))
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
