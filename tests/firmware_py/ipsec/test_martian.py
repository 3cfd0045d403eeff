# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""What is never forwarded, in software."""

from ipaddress import ip_network

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether

from spigate.firmware_py.ipsec.packet import Ip, martian
from spigate.hdl.contract.enums import Port, Reason
from tests.firmware_py.control.network import PEER_MAC, SELF_MAC
from tests.firmware_py.control.test_slow_path import bench
from tests.hdl.cfe.frames import NEVER_FROM, NEVER_TO

INSIDE_4 = (
    "0.0.0.0",
    "0.255.255.255",
    "1.0.0.0",
    "126.255.255.255",
    "127.0.0.0",
    "127.255.255.255",
    "128.0.0.0",
    "223.255.255.255",
    "224.0.0.0",
    "224.0.0.255",
    "224.0.1.0",
    "239.255.255.255",
    "240.0.0.0",
    "255.255.255.255",
)
CASES_6 = [  # source, destination, and what is wrong with them; "group": only in a frame for a group
    ("2001:db8::1", "2001:db8:1::1", "group"),
    ("2001:db8::1", "ff02::1", None),
    ("::", "ff02::1:ff00:1", None),
    ("::", "2001:db8:1::1", "address"),
    ("::1", "2001:db8:1::1", "address"),
    ("ff02::1", "2001:db8:1::1", "address"),
    ("2001:db8::1", "::1", "address"),
    ("2001:db8::1", "::", "address"),
    ("fe80::1", "fe80::2", "group"),
]


def parsed(packet):
    return Ip.parse(bytes(packet))


def test_ipv4_addresses():
    for source in INSIDE_4:
        for destination in INSIDE_4:
            ip = parsed(IP(src=source, dst=destination) / UDP())
            bad = any(ip.source in net for net in NEVER_FROM) or any(
                ip.destination in net for net in NEVER_TO
            )
            assert martian(ip, group=False) == bad, (source, destination)
            assert martian(ip, group=True) == (bad or ip.destination not in ip_network("224.0.0.0/4")), (
                source,
                destination,
            )


@pytest.mark.parametrize(("source", "destination", "wrong"), CASES_6)
def test_ipv6_addresses(source, destination, wrong):
    ip = parsed(IPv6(src=source, dst=destination) / UDP())
    assert martian(ip, group=False) == (wrong == "address")
    assert martian(ip, group=True) == (wrong is not None)


@pytest.mark.parametrize(("source", "destination", "wrong"), CASES_6)
def test_the_software_path_forwards_none(source, destination, wrong):
    """IPv6 is the control element's alone."""
    made = bench()
    for station, bad in ((SELF_MAC, wrong == "address"), ("33:33:00:00:00:01", wrong is not None)):
        frame = bytes(
            Ether(src=PEER_MAC, dst=station) / IPv6(src=source, dst=destination) / UDP(sport=1, dport=2)
        )
        before = made.loop.drops[Reason.MARTIAN]
        made.feed(Port.NETWORK, frame)
        assert made.loop.drops[Reason.MARTIAN] - before == bad, station
