# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""A plane against one opposite, and packets of scapy's; what IKE would say, said here."""

import random
from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest
from scapy.layers.inet import ICMP, IP, UDP, defragment, fragment
from scapy.layers.inet6 import ICMPv6EchoRequest, ICMPv6ND_NA, ICMPv6ND_RA, IPv6
from scapy.packet import Raw

from spigate.firmware_py.daemon.dataplane import HELD_PACKETS
from spigate.firmware_py.daemon.plane import Plane
from spigate.firmware_py.ike.engine.actions import (
    AddPolicy,
    InstallSa,
    MoveSa,
    RemovePolicy,
    RemoveSa,
    Socket,
)
from spigate.firmware_py.ike.peers.pad import Pad
from spigate.firmware_py.ipsec.policy import Policy, PolicyAction, PolicyDirection, Template
from spigate.firmware_py.ipsec.sa import ANY_PORTS, Auth, Cipher, Encapsulation, Lifetime, Sa, Selectors
from spigate.firmware_py.ipsec.soft_sa import SoftSa
from spigate.hdl.contract.enums import Direction, Mode
from spigate.hdl.contract.protocols import AH, ESP
from tests.firmware_py.ike.network import child, peer

A, B = ip_address("192.0.2.1"), ip_address("192.0.2.2")
LEFT, RIGHT = ip_network("10.1.0.0/24"), ip_network("10.2.0.0/24")
ANY = ip_address("0.0.0.0")


def sa(direction: Direction, spi: int, *, reqid: int = 1, **fields) -> Sa:
    """From A to B."""
    return Sa(
        **{
            "direction": direction,
            "spi": spi,
            "source": A,
            "destination": B,
            "mode": Mode.TUNNEL,
            "cipher": Cipher.AES_GCM,
            "key": bytes(16),
            "salt": bytes(4),
            "icv_bytes": 16,
            "reqid": reqid,
            **fields,
        }
    )


def protect(
    source,
    destination,
    direction,
    *,
    reqid: int = 1,
    mode: Mode = Mode.TUNNEL,
    protocol_of_sa: int = ESP,
    **ports,
) -> Policy:
    return Policy(
        selectors=Selectors(source, destination, **ports),
        direction=direction,
        action=PolicyAction.PROTECT,
        templates=(Template(source=ANY, destination=ANY, mode=mode, reqid=reqid, protocol=protocol_of_sa),),
    )


class Pair:
    """A sends to B."""

    def __init__(self, *, on_traffic=(), policies=(), pad=None, mtu=1500, ports=None, **fields):
        self.now, self.told = 0.0, []
        self.a, self.b = (
            Plane(pad or Pad(), on_traffic, policies, mtu=mtu, clock=lambda: self.now),
            Plane(Pad(), clock=lambda: self.now),
        )
        for plane in (self.a, self.b):
            plane.on_alive = lambda spi: self.told.append(("alive", spi))
            plane.on_expired = lambda sa, hard: self.told.append(("expired", sa.spi, hard))
            plane.on_wanted = lambda *what: self.told.append(("wanted", *what))
        self.ports, self.fields = ports or {}, fields

    def policies(self) -> "Pair":
        kind = {
            "mode": self.fields.get("mode", Mode.TUNNEL),
            "protocol_of_sa": self.fields.get("protocol", ESP),
        }
        self.a.apply(AddPolicy(protect(LEFT, RIGHT, PolicyDirection.OUT, **kind, **self.ports)))
        self.b.apply(AddPolicy(protect(LEFT, RIGHT, PolicyDirection.IN, **kind, **self.ports)))
        return self

    def install(self, spi: int = 0x1000) -> list[bytes]:
        self.b.apply(InstallSa("a", "net", sa(Direction.INBOUND, spi, **self.fields)))
        return self.a.apply(InstallSa("b", "net", sa(Direction.OUTBOUND, spi, **self.fields)))


@pytest.fixture
def pair():
    made = Pair().policies()
    made.install()
    return made


def packet(size: int = 100, destination: str = "10.2.0.1", **fields) -> bytes:
    return bytes(
        IP(src="10.1.0.1", dst=destination, **fields) / UDP(sport=1000, dport=2000) / Raw(bytes(size))
    )


def test_there_and_back(pair):
    (sealed,) = pair.a.send(packet())
    assert IP(sealed).dst == str(B) and packet()[28:] not in sealed
    assert pair.b.receive(sealed) == packet()
    assert pair.told == [("alive", 0x1000)]
    assert (pair.a.counts["encrypted"], pair.b.counts["decrypted_bytes"]) == (1, 128)


def test_what_comes_twice_or_is_not_known_is_dropped(pair):
    (sealed,) = pair.a.send(packet())
    pair.b.receive(sealed)
    assert pair.b.receive(sealed) is None
    assert pair.b.receive(sealed[:20] + bytes(4) + sealed[24:]) is None
    assert pair.b.receive(sealed[:-1] + bytes([sealed[-1] ^ 1])) is None
    assert pair.b.receive(sealed[:10]) is None
    assert pair.b.drops == {"replay": 2, "no_sa": 1, "malformed": 1}
    assert pair.told == [("alive", 0x1000)]


def test_the_newest_sa_sends_and_the_older_still_receives(pair):
    (old,) = pair.a.send(packet())
    pair.install(0x2000)
    (new,) = pair.a.send(packet())
    assert pair.b.receive(new) == pair.b.receive(old) == packet()
    pair.a.apply(RemoveSa(sa(Direction.OUTBOUND, 0x2000)))
    assert pair.b.receive(pair.a.send(packet())[0]) == packet()
    pair.a.apply(RemoveSa(sa(Direction.OUTBOUND, 0x1000)))
    assert pair.a.send(packet()) == [] and pair.a.drops == {"no_sa": 1} and pair.a.sas == []


def test_what_comes_before_its_sa_waits_for_it():
    """A peer's answer that makes an SA, and what it sends on it, may cross (RFC 7296 2.8)."""
    pair = Pair().policies()
    offered = {0x1000, 0x2000}
    pair.b.expects = offered.__contains__
    pair.a.apply(InstallSa("b", "net", sa(Direction.OUTBOUND, 0x1000)))
    sealed = [pair.a.send(packet(size))[0] for size in range(HELD_PACKETS + 4)]
    assert [pair.b.receive(each) for each in sealed] == [None] * len(sealed) and pair.b.early() == []
    pair.b.apply(InstallSa("a", "net", sa(Direction.INBOUND, 0x1000)))
    assert pair.b.early() == [packet(size) for size in range(4, HELD_PACKETS + 4)] and pair.b.early() == []
    assert pair.b.receive(sealed[0]) == packet(0) and not pair.b.drops
    # no SA comes of the offer; or one that is not for it
    pair.a.apply(InstallSa("b", "net", sa(Direction.OUTBOUND, 0x2000)))
    pair.b.receive(pair.a.send(packet())[0])
    offered.clear()
    assert pair.b.early() == [] and pair.b.drops == {"no_sa": 1}
    offered.add(0x2000)
    pair.b.receive(pair.a.send(packet())[0])
    pair.b.apply(InstallSa("a", "net", sa(Direction.INBOUND, 0x2000, destination=A)))
    assert pair.b.early() == [] == pair.b.early() and pair.b.drops == {"no_sa": 2}


def test_a_peer_that_sends_from_elsewhere_has_moved():
    pair = Pair(encapsulation=Encapsulation(4500, 4500)).policies()
    pair.install()
    pair.b.on_moved = lambda *what: pair.told.append(what)
    sealed = [IP(pair.a.send(packet())[0]) for _ in range(2)]
    assert pair.b.receive(bytes(sealed[0])) == packet() and pair.told == [("alive", 0x1000)]
    sealed[1].src, sealed[1][UDP].sport, sealed[1].chksum = "192.0.2.9", 1024, None
    forged = bytearray(bytes(sealed[1]))
    forged[-1] ^= 1
    assert pair.b.receive(bytes(forged)) is None and len(pair.told) == 1
    assert pair.b.receive(bytes(sealed[1])) == packet()
    assert pair.told[1:] == [(0x1000, Socket(B, 4500), Socket(ip_address("192.0.2.9"), 1024))]
    assert pair.b.receive(bytes(sealed[1])) is None and len(pair.told) == 2


def test_an_sa_carries_only_what_its_policies_say():
    pair = Pair().policies()
    pair.install()
    pair.a.apply(AddPolicy(protect(LEFT, ip_network("10.9.0.0/24"), PolicyDirection.OUT)))
    (sealed,) = pair.a.send(packet(destination="10.9.0.1"))
    assert pair.b.receive(sealed) is None and pair.b.drops == {"policy": 1}


def test_another_sa_may_not_carry_it(pair):
    pair.b.apply(InstallSa("c", "net", sa(Direction.INBOUND, 0x3000, reqid=3)))
    pair.a.apply(InstallSa("c", "net", sa(Direction.OUTBOUND, 0x3000, reqid=1)))
    assert pair.b.receive(pair.a.send(packet())[0]) is None and pair.b.drops == {"policy": 1}


def test_without_policy_nothing_goes(pair):
    assert pair.a.send(packet(destination="10.3.0.1")) == [] and pair.a.drops == {"policy": 1}
    pair.a.apply(RemovePolicy(protect(LEFT, RIGHT, PolicyDirection.OUT)))
    assert pair.a.send(packet()) == [] and pair.a.drops == {"policy": 2}


def test_what_was_decrypted_for_the_host_goes_no_further(pair):
    """Outbound policy would lead it to the next peer."""
    own, onward = [ip_address("10.2.0.1")], []
    made = Plane(Pad(), clock=lambda: 0.0, local=lambda: own)
    made.on_network = onward.extend
    for policy in (
        protect(LEFT, RIGHT, PolicyDirection.IN),
        protect(LEFT, RIGHT, PolicyDirection.OUT, reqid=2),
    ):
        made.apply(AddPolicy(policy))
    made.apply(InstallSa("a", "net", sa(Direction.INBOUND, 0x1000)))
    made.apply(InstallSa("c", "net", sa(Direction.OUTBOUND, 0x2000, reqid=2)))
    assert made.receive(pair.a.send(packet())[0]) == packet() and onward == []
    assert made.receive(pair.a.send(packet(destination="10.2.0.2"))[0]) is None and len(onward) == 1
    own[:] = [ip_address("10.2.0.2")]
    made.addresses_changed()
    assert made.receive(pair.a.send(packet(destination="10.2.0.2"))[0]) == packet(destination="10.2.0.2")
    assert made.receive(pair.a.send(packet())[0]) is None and len(onward) == 2, "it has that address no more"


@pytest.mark.parametrize("action,sent", [(PolicyAction.DISCARD, []), (PolicyAction.BYPASS, [packet()])])
def test_configured_policies_come_first(action, sent):
    first = Policy(selectors=Selectors(LEFT, RIGHT, 17), direction=PolicyDirection.OUT, action=action)
    pair = Pair(policies=[first]).policies()
    pair.install()
    assert pair.a.send(packet()) == sent


def test_what_a_policy_discards_no_sa_carries():
    pair = Pair().policies()
    pair.b = Plane(
        Pad(),
        policies=[
            Policy(
                selectors=Selectors(LEFT, RIGHT, 17),
                direction=PolicyDirection.IN,
                action=PolicyAction.DISCARD,
            )
        ],
        clock=lambda: 0,
    )
    pair.policies()
    pair.install()
    assert pair.b.receive(pair.a.send(packet())[0]) is None and pair.b.drops == {"policy": 1}


def on_traffic() -> Pair:
    return Pair(pad=Pad([peer("b", "a", "b", children=(child(initiate=False),))]), on_traffic={("b", "net")})


def test_the_first_packet_asks_for_its_child_and_waits():
    pair = on_traffic()
    packets = [packet(size) for size in range(HELD_PACKETS + 4)]
    assert [pair.a.send(each) for each in packets] == [[]] * len(packets)
    host = Selectors(ip_network("10.1.0.1/32"), ip_network("10.2.0.1/32"), 17, (1000, 1000), (2000, 2000))
    assert pair.told == [("wanted", "b", "net", host)]
    pair.policies()
    sealed = pair.install()
    assert [pair.b.receive(each) for each in sealed] == packets[-HELD_PACKETS:]


def test_packets_that_wait_in_vain_are_forgotten():
    pair = on_traffic()
    pair.a.send(packet())
    pair.a.forget_held("b")
    assert pair.a.drops == {"no_sa": 1} and pair.policies().install() == []


def test_a_child_that_does_not_carry_the_packet_that_asked_for_it():
    pair = on_traffic()
    pair.a.send(packet())
    assert pair.install() == [] and pair.a.drops == {"policy": 1} and len(pair.told) == 1


def test_lifetimes_are_told():
    pair = Pair(soft=Lifetime(packets=2), hard=Lifetime(packets=3)).policies()
    pair.install()
    for _ in range(4):
        pair.a.send(packet())
    assert pair.told == [("expired", 0x1000, False), ("expired", 0x1000, True)]


def test_numbers_are_used_up():
    pair = Pair(sequence=0xF000_0000 - 1).policies()
    pair.a.apply(InstallSa("b", "net", sa(Direction.OUTBOUND, 0x1000, **pair.fields)))
    pair.a.send(packet())
    assert pair.told == [("expired", 0x1000, False)]


def test_a_moved_sa_goes_on_with_its_numbers(pair):
    pair.b.receive(pair.a.send(packet())[0])
    elsewhere = {"source": ip_address("192.0.2.9"), "encapsulation": Encapsulation(4500, 4500)}
    for plane, direction in ((pair.a, Direction.OUTBOUND), (pair.b, Direction.INBOUND)):
        old = sa(direction, 0x1000)
        plane.apply(MoveSa(old, replace(old, **elsewhere)))
    (sealed,) = pair.a.send(packet())
    assert (IP(sealed).src, IP(sealed)[UDP].dport) == ("192.0.2.9", 4500)
    assert pair.b.receive(sealed) == packet() and pair.b.sas[0].soft.state.sequence == 2


@pytest.mark.parametrize("moves", [False, True])
def test_no_peer_takes_the_place_of_another_s_sa(pair, moves):
    """One says that it is where another is, and receives on the other's SPI: that one's SA went, and what
    was for it was lost.
    """
    there, elsewhere = (
        sa(Direction.OUTBOUND, 0x1000, reqid=2, key=bytes([1] * 16)),
        {"destination": ip_address("203.0.113.9")},
    )
    pair.a.apply(InstallSa("other", "net", replace(there, **elsewhere) if moves else there))
    if moves:
        pair.a.apply(MoveSa(replace(there, **elsewhere), there))
    assert pair.b.receive(*pair.a.send(packet())) == packet()
    pair.a.apply(RemoveSa(there))
    assert pair.b.receive(*pair.a.send(packet())) == packet()


def test_plain_esp_is_not_taken_for_esp_in_udp(pair):
    old = sa(Direction.INBOUND, 0x1000)
    pair.b.apply(MoveSa(old, replace(old, encapsulation=Encapsulation(4500, 4500))))
    assert pair.b.receive(pair.a.send(packet())[0]) is None and pair.b.drops == {"no_sa": 1}


def pieces() -> list[bytes]:
    return [bytes(each) for each in fragment(IP(packet(3000, id=7)), 1000)]


def test_fragments_go_through_a_tunnel_as_they_are(pair):
    assert [pair.b.receive(sealed) for each in pieces() for sealed in pair.a.send(each)] == pieces()


def test_fragments_are_put_together_where_policies_look_at_ports():
    pair = Pair(ports={"protocol": 17, "destination_ports": (2000, 2000)}, mtu=9000).policies()
    pair.install()
    (sealed,) = [sealed for each in pieces() for sealed in pair.a.send(each)]
    assert pair.b.receive(sealed) == packet(3000, id=7)


def test_inbound_policy_sees_the_ports_of_fragments(pair):
    """Later ones have none: a policy in front that discards by ports is else gone around (RFC 4301 7)."""
    block = Policy(
        selectors=Selectors(LEFT, RIGHT, 17, destination_ports=(2000, 2000)),
        direction=PolicyDirection.IN,
        action=PolicyAction.DISCARD,
        priority=-1,
    )
    pair.b.apply(AddPolicy(block))
    assert [pair.b.receive(sealed) for each in pieces() for sealed in pair.a.send(each)] == [None] * len(
        pieces()
    )
    pair.b.apply(RemovePolicy(block))
    pair.b.apply(AddPolicy(replace(block, selectors=replace(block.selectors, destination_ports=(53, 53)))))
    assert [got for each in pieces() for sealed in pair.a.send(each) if (got := pair.b.receive(sealed))] == [
        packet(3000, id=7)
    ]


def test_neighbours_of_another_link_are_none_of_the_hosts():
    pair = Pair()
    inside = ip_network("2001:db8:1::/64"), ip_network("2001:db8:2::/64")
    pair.b.apply(AddPolicy(protect(*inside, PolicyDirection.IN)))
    pair.install()
    sender = SoftSa(sa(Direction.OUTBOUND, 0x1000))
    there = IPv6(src="2001:db8:1::1", dst="2001:db8:2::1", hlim=255)
    for message, passes in (
        (ICMPv6EchoRequest(), True),
        (ICMPv6ND_NA(tgt="2001:db8:2::9"), False),
        (ICMPv6ND_RA(), False),
    ):
        assert bool(pair.b.receive(sender.encapsulate(bytes(there / message)))) == passes
    assert pair.b.drops == {"martian": 2}


def test_what_is_too_long_outside_goes_in_fragments(pair):
    sealed = pair.a.send(packet(1460))
    assert len(sealed) == 2 and max(map(len, sealed)) <= 1500 and IP(sealed[0]).flags.MF


AH_FIELDS = {
    "protocol": AH,
    "cipher": Cipher.NULL,
    "key": b"",
    "salt": b"",
    "icv_bytes": 0,
    "auth": Auth.HMAC_SHA256_128,
    "auth_key": bytes(32),
}


@pytest.mark.parametrize("flags", [0, "DF"])
@pytest.mark.parametrize("mode", list(Mode))
@pytest.mark.parametrize("fields", [{}, AH_FIELDS])
def test_no_identification_is_zero(fields, mode, flags):
    """A raw socket puts another number there, behind AH's ICV (raw(7)); the packet's own and what comes of
    the sequence number, were they taken, would be 0."""
    ends = {"source": ip_address("10.1.0.1"), "destination": ip_address("10.2.0.1")}
    pair = Pair(mode=mode, sequence=0xFFFF, mtu=1500, **ends, **fields).policies()
    pair.install()
    for size in (100, 1460):
        whole = packet(size, id=0, flags=flags)
        sealed = [IP(each) for each in pair.a.send(whole)]
        assert len(sealed) == 1 + (size == 1460) and len({each.id for each in sealed}) == 1 and sealed[0].id
        plain = IP(pair.b.receive(bytes(defragment(sealed)[0])))
        plain.id = 0
        del plain.chksum
        assert bytes(plain)[20:] == whole[20:] and plain.dst == "10.2.0.1"


def test_the_longest_packet_goes_in_two(pair):
    pair.a._mtu = 0xFFFF
    sealed = pair.a.send(packet(0xFFFF - 28))
    assert len(sealed) == 2 and None not in [pair.b.receive(each) for each in sealed]


def test_ports_of_protocols_without_any():
    pair = on_traffic()
    pair.a.send(bytes(IP(src="10.1.0.1", dst="10.2.0.1") / ICMP()))
    assert pair.told[0][3].destination_ports == ANY_PORTS and pair.told[0][3].protocol == 1


@pytest.mark.slow
def test_mutated_packets_do_no_harm(pair):
    seed = random.randrange(1 << 32)
    print("seed", seed)
    source = random.Random(seed)
    pair.a.apply(AddPolicy(protect(LEFT, RIGHT, PolicyDirection.OUT, destination_ports=(1, 9))))
    for _ in range(3000):
        clear = bytearray(packet(source.randrange(200)))
        sealed = bytearray(pair.a.send(packet(source.randrange(200)))[0])
        for data in (clear, sealed):
            for _ in range(source.randrange(1, 4)):
                data[source.randrange(len(data))] = source.randrange(256)
            del data[source.choice((len(data), source.randrange(len(data)))) :]
        pair.a.send(bytes(clear))
        pair.b.receive(bytes(sealed))
    assert pair.b.drops["icv"] > 100
    assert pair.b.receive(pair.a.send(packet())[0]) == packet()
