# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""What ICMP may say of the way to a peer (RFC 1191, 8201, RFC 4301 8.2), and how packets are numbered (RFC
6864).
"""

from collections import Counter
from dataclasses import replace

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import ICMPv6PacketTooBig, IPv6

from spigate.firmware_py.control.routing import PATH_MTU_AGE_S
from spigate.firmware_py.control.settings import Settings
from spigate.firmware_py.ipsec.identification import SOFTWARE_NUMBERS
from spigate.firmware_py.ipsec.packet import Ip
from spigate.firmware_py.ipsec.policy import PolicyAction
from spigate.firmware_py.tables.interface import GATEWARE, SOFTWARE
from spigate.hdl.contract.enums import Df, Direction, Port
from tests.firmware_py.control.test_slow_path import (
    OUT,
    SELF,
    bench,
    network_frame,
    outgoing,
    policy,
    sa,
    server_frame,
    template,
)


def told(version, mtu, quoted):
    """Anybody's error message about the packet ``quoted``."""
    if version == 4:
        return bytes(
            IP(src="198.51.100.66", dst=str(SELF[4])) / ICMP(type=3, code=4, nexthopmtu=mtu) / quoted[:28]
        )
    return bytes(IPv6(src="2001:db8::99", dst=str(SELF[6])) / ICMPv6PacketTooBig(mtu=mtu) / quoted[:1000])


class Path:
    """One outbound SA, of which one packet has left."""

    def __init__(self, version=4, capabilities=SOFTWARE, **settings):
        self.version = version
        outbound = sa(0x1001, Direction.OUTBOUND, version)
        self.bench = bench((outbound,), [policy(OUT, version=version)], capabilities, **settings)
        (self.sent,) = self.bench.feed(Port.SERVER, server_frame(outgoing(size=100, flags="DF")))[0]

    def hears(self, mtu, quoted=None):
        self.bench.feed(Port.NETWORK, network_frame(told(self.version, mtu, quoted or self.sent[14:])))
        return self

    def takes(self, size):
        """Whether an inner packet of that many bytes, which may not be fragmented, goes out."""
        out, back = self.bench.feed(Port.SERVER, server_frame(outgoing(size=size - 28, flags="DF")))
        assert len(out) + len(back) == 1
        return bool(out)


@pytest.mark.parametrize("capabilities", [SOFTWARE, GATEWARE])
def test_a_path_gets_narrower_by_messages_and_wider_by_age_alone(capabilities):
    path = Path(capabilities=capabilities).hears(1000)
    assert not path.takes(1300) and path.takes(900)
    for wider in (1500, 1400, 1001, 65535):
        assert not path.hears(wider).takes(1300), f"{wider} is no less than is known"
    path.bench.now += PATH_MTU_AGE_S - 1
    assert not path.hears(1500).takes(1300)
    path.bench.now += 1
    assert path.takes(1300), "what did not narrow the path did not make the belief younger"


@pytest.mark.parametrize("capabilities", [SOFTWARE, GATEWARE])
def test_no_rule_swallows_what_is_said_of_a_path(capabilities):
    """What policy discards at the gateway's own address gets a rule, which must leave the next error
    message alone.
    """
    path = Path(capabilities=capabilities, settings=Settings(default=PolicyAction.DISCARD))
    for junk in (
        IP(src="198.51.100.66", dst=str(SELF[4])) / UDP() / b"junk",
        IP(src="198.51.100.66", dst=str(SELF[4])) / ICMP(),
    ):
        path.bench.feed(Port.NETWORK, network_frame(bytes(junk)))
    assert not path.hears(1400).takes(1390) and path.takes(1300)
    assert not path.hears(1000).takes(1300) and path.takes(900)


@pytest.mark.parametrize("mtu", [0, 1, 67, 575])
def test_no_message_goes_below_ipv4s_smallest(mtu):
    path = Path().hears(mtu)
    assert path.takes(576 - 60) and not path.takes(576)


def test_what_says_less_than_ipv6s_smallest_is_not_believed():
    """RFC 8201 4."""
    assert Path(version=6).hears(1279).takes(1300)
    assert not Path(version=6).hears(1280).takes(1300)


@pytest.mark.parametrize("what", ["source", "destination", "spi", "protocol"])
def test_only_about_packets_that_an_sa_here_has_made(what):
    path = Path()
    quoted = bytearray(path.sent[14:42])
    quoted[{"source": 15, "destination": 19, "spi": 23, "protocol": 9}[what]] ^= 1  # 50, ESP, becomes 51, AH
    whole = IP(bytes(quoted))
    del whole.chksum
    assert path.hears(1000, bytes(whole)).takes(1300)


# Identification


@pytest.mark.parametrize("small", [{}, {"sa_entries": 2, "dfes": 1}], ids=["DFEs", "DFE and software"])
@pytest.mark.parametrize("count", [2, 3])
def test_sas_between_the_same_two_addresses_share_no_identification(count, small):
    """RFC 6864 4.3: with DF clear none comes again among packets of one source, destination and protocol."""
    sas = [sa(0x1001 + n, Direction.OUTBOUND, df=Df.CLEAR, reqid=n + 1) for n in range(count)]
    policies = [
        replace(
            policy(OUT, templates=[template(OUT, reqid=n + 1)]),
            priority=n,
            selectors=replace(policy(OUT).selectors, protocol=17, destination_ports=(2000 + n,) * 2),
        )
        for n in range(count)
    ]
    capabilities = replace(GATEWARE, **small)
    made, numbers = bench(sas, policies, capabilities), Counter()
    for _ in range(20):
        for n in range(count):
            for frame in made.feed(Port.SERVER, server_frame(outgoing(dport=2000 + n)))[0]:
                ip = Ip.parse(frame[14:])
                assert not ip.dont_fragment
                numbers[ip.identification] += 1
    assert len(numbers) == 20 * count and numbers.most_common(1)[0][1] == 1
    places = capabilities.dfes * capabilities.sa_entries - 1  # one is kept empty
    assert sum(number <= SOFTWARE_NUMBERS for number in numbers) == 20 * max(0, count - places), (
        "which of them software made"
    )


def test_fragments_made_here_are_numbered_as_the_packet_was():
    outbound = sa(0x1001, Direction.OUTBOUND, df=Df.CLEAR)
    made = bench((outbound,), [policy(OUT)])
    out, _ = made.feed(Port.SERVER, server_frame(outgoing(size=1470)), server_frame(outgoing(size=1470)))
    numbers = [Ip.parse(frame[14:]).identification for frame in out]
    assert len(out) == 4 and numbers[0] == numbers[1] != numbers[2] == numbers[3]
