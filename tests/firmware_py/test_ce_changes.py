"""What changes while the control element is at work: neighbours turn up and become others, SAs move, go to software and come back."""
from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import ICMPv6ND_NS, IPv6
from scapy.layers.l2 import ARP, Ether

from spigate.firmware_py.assignment import BEYOND, INSIDE, MOVED, QUIET_SECONDS
from spigate.firmware_py.errors import InputError
from spigate.firmware_py.network import Neighbour, Topology
from spigate.firmware_py.packet import rewrite
from spigate.firmware_py.policy import Policy, PolicyAction, PolicyDirection
from spigate.firmware_py.punt import InjectMode, Port, PuntHeader, Reason
from spigate.firmware_py.sa import Direction, Encapsulation, Lifetime, Mode, Selectors
from spigate.firmware_py.settings import Settings
from spigate.firmware_py.soft.fragments import fragments
from spigate.firmware_py.soft.sa import SoftSa
from spigate.firmware_py.tables import GATEWARE, SOFTWARE, CfeSettings, SaState, Source
from tests.firmware_py import test_slowpath as both
from tests.firmware_py.network import INSIDE_MAC, PEER, PEER_MAC, SELF, SELF_MAC, SERVERS, TOPOLOGY, Bench, frame, mac, sa, udp
from tests.firmware_py.network import policy as bed_policy
from tests.firmware_py.test_slowpath import (
    FORWARD,
    HEADERS,
    HERE,
    OUT,
    POLICIES,
    SERVER_MAC,
    THERE,
    incoming,
    network_frame,
    opened,
    outgoing,
    peer,
    policy,
    routed,
    server_frame,
    template,
)

INBOUND, OUTBOUND = sa(0x1000), sa(0x1001, Direction.OUTBOUND)
NEIGHBOURS = tuple(both.TOPOLOGY.neighbours.values())


def topology(*neighbours):
    """The bench's network, with these neighbours alone; others may turn up."""
    known = both.TOPOLOGY
    return Topology(known.interfaces.values(), neighbours, known.routes, complete=False)


def without(address):
    return topology(*(each for each in NEIGHBOURS if str(each.address) != str(address)))


class Host(Bench):
    """A bench that remembers what the control element hands out."""

    def __init__(self, sas=(INBOUND, OUTBOUND), policies=POLICIES, capabilities=GATEWARE, network=both.TOPOLOGY, **settings):
        super().__init__(sas, policies, capabilities, network, **settings)
        self.unresolved, self.got, self.moved = [], [], []
        self.control.on_unresolved = lambda *what: self.unresolved.append(what)
        self.control.on_host = lambda *what: self.got.append(what)
        self.control.on_moved = lambda *what: self.moved.append(what)

    def resolve(self, network=both.TOPOLOGY):
        """What leaves at (NETWORK, SERVER) of all that waited when everybody has turned up."""
        self.do(self.control.change_topology(network))
        waited, self.unresolved[:] = list(self.unresolved), []
        before = [len(self.loop.sent[side]) for side in (Port.NETWORK, Port.SERVER)]
        for *_, header, one in waited:
            self.do(self.again(header, one))
        return tuple(self.loop.sent[side][at:] for side, at in zip((Port.NETWORK, Port.SERVER), before, strict=True))

    def send(self, one):
        """What leaves at NETWORK of a frame of the control element's own host."""
        before = len(self.loop.sent[Port.NETWORK])

        async def run():
            await self.control.inject(InjectMode.CLASSIFY, Port.SERVER, 0, one)
            await self.outcomes()

        self.do(run())
        return self.loop.sent[Port.NETWORK][before:]

    async def again(self, header, one):
        """One more turn for a punted frame, and for what comes of it."""
        await self.control.handle(header, one)
        await self.outcomes()

    async def outcomes(self):
        while self.loop.port.outcomes:
            outcome = self.loop.port.outcomes.popleft()
            if hasattr(outcome, "header"):
                await self.control.handle(outcome.header, outcome.frame)
            elif hasattr(outcome, "port"):
                self.loop.sent[outcome.port].append(outcome.frame)


# Neighbours that nobody knows yet


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("capabilities", [GATEWARE, SOFTWARE])
def test_a_clear_packet_waits_for_its_neighbour(version, capabilities):
    bench = Host((), (), capabilities, without(HERE[version]))
    plain = incoming(version)
    assert bench.feed(Port.NETWORK, network_frame(plain)) == ([], [])
    [(port, address, header, kept)] = bench.unresolved
    assert (port, address, kept) == (Port.SERVER, ip_address(HERE[version]), network_frame(plain))
    assert header.ingress == Port.NETWORK and bench.control.consumed == {"no_route": 1}
    assert bench.resolve() == ([], [server_bound(plain)])
    assert not bench.unresolved


def server_bound(plain):
    return bytes(Ether(dst=SERVER_MAC, src=INSIDE_MAC, type=0x0800 if plain[0] >> 4 == 4 else 0x86DD)) + routed(plain)


def test_what_has_no_way_waits_for_nobody():
    bench = Host((), (), network=topology())
    bench.feed(Port.NETWORK, network_frame(udp("10.7.7.7", "172.16.0.1")))
    assert not bench.unresolved and bench.control.consumed == {"no_route": 1}


def test_the_router_is_asked_for_not_the_destination():
    bench = Host((), (), network=without(PEER))
    bench.feed(Port.SERVER, server_frame(outgoing()))
    assert [each[:2] for each in bench.unresolved] == [(Port.NETWORK, ip_address(PEER))]


@pytest.mark.parametrize("capabilities", [GATEWARE, SOFTWARE])
def test_what_is_to_be_protected_waits_for_the_peers_router_and_no_number_is_lost(capabilities):
    bench = Host(capabilities=capabilities, network=without(PEER))
    plain = outgoing()
    assert bench.feed(Port.SERVER, server_frame(plain)) == ([], [])
    assert [each[:2] for each in bench.unresolved] == [(Port.NETWORK, ip_address(PEER))]
    assert bench.do(bench.control.state(OUTBOUND)).sequence == 0
    out, _ = bench.resolve()
    assert opened(out, OUTBOUND) == [routed(plain)] and out[0][:6] == mac(PEER_MAC)


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("capabilities", [GATEWARE, SOFTWARE])
def test_a_decrypted_packet_waits_as_what_it_has_become(version, capabilities):
    """Encrypted it could not be handled again: it would be a replay."""
    inbound = both.sa(version=version)
    bench = Host((inbound,), [policy(FORWARD, version, version=version)], capabilities, without(HERE[version]))
    plain = incoming(version)
    assert bench.feed(Port.NETWORK, network_frame(peer(inbound).encapsulate(plain))) == ([], [])
    [(port, address, header, kept)] = bench.unresolved
    assert (port, address) == (Port.SERVER, ip_address(HERE[version]))
    assert header.ingress == Port.RECIRCULATE and kept[14:][-20:] == plain[-20:]
    _, out = bench.resolve()
    assert out == [server_bound(plain)], "its time to live is counted down once"
    assert not bench.loop.drops


def test_ipv6_inside_ipv4_waits_as_ipv6():
    bench = Host((INBOUND,), [policy(FORWARD, 6)], network=without(HERE[6]))
    bench.feed(Port.NETWORK, network_frame(peer(INBOUND).encapsulate(incoming(6))))
    [(*_, header, kept)] = bench.unresolved
    assert (header.reason, header.ingress, kept[12:14]) == (Reason.IPV6, Port.RECIRCULATE, b"\x86\xdd")
    assert len(bench.resolve()[1]) == 1


def test_from_one_tunnel_into_another_whose_peer_is_not_known():
    spoke = both.sa(0x3001, Direction.OUTBOUND, reqid=7)
    there, far = ip_network("10.1.0.0/24"), ip_network("10.1.9.0/24")
    policies = [Policy(selectors=Selectors(there, far), direction=direction, action=PolicyAction.PROTECT,
                       templates=(template(direction, reqid=reqid),)) for direction, reqid in ((FORWARD, 1), (OUT, 7))]
    for capabilities in (GATEWARE, SOFTWARE):
        bench = Host((INBOUND, spoke), policies, capabilities, topology())
        plain = udp(THERE[4], "10.1.9.9")
        bench.feed(Port.NETWORK, network_frame(peer(INBOUND).encapsulate(plain)))
        [(*_, header, _)] = bench.unresolved
        assert header.ingress == Port.RECIRCULATE
        out, _ = bench.resolve()
        assert opened(out, spoke) == [routed(plain)] and not bench.loop.drops


# Neighbours that are others now


def elsewhere(number):
    """The same neighbours with other Ethernet addresses."""
    return topology(*(replace(each, mac=b"\x02\0\1" + number.to_bytes(3)) for each in NEIGHBOURS))


def test_a_neighbours_new_address_is_that_of_all_later_frames():
    narrow = [replace(policy(FORWARD), selectors=replace(policy(FORWARD).selectors, destination=ip_network(f"{HERE[4]}/32"))), policy(OUT)]
    bench = Host(policies=narrow, network=topology(*NEIGHBOURS))
    sender = peer(INBOUND)

    def both_ways():
        _, inward = bench.feed(Port.NETWORK, network_frame(sender.encapsulate(incoming())))
        outward, _ = bench.feed(Port.SERVER, server_frame(outgoing()))
        return outward[0][:6], inward[0][:6]

    assert both_ways() == (mac(PEER_MAC), mac(SERVER_MAC))
    routes = len(bench.gateway._routes)
    assert routes == 2, "straight to the only destination"
    for number in range(3 * GATEWARE.routes):
        bench.do(bench.control.change_topology(elsewhere(number)))
        assert both_ways() == (b"\x02\0\1" + number.to_bytes(3),) * 2
        assert len(bench.gateway._routes) == routes, "routes are given back"
    assert not bench.control.refusals and not bench.loop.drops


def test_new_neighbours_change_nothing_that_is_there():
    bench = Host(network=without(HERE[6]))
    bench.feed(Port.SERVER, server_frame(outgoing()))
    rules, programmed = list(bench.gateway._rules), bench.control.programmed.total()
    bench.do(bench.control.change_topology(topology(*NEIGHBOURS)))
    assert bench.gateway._rules == rules and bench.control.programmed.total() == programmed


def test_a_neighbour_that_is_gone_is_asked_for_again():
    bench = Host(network=topology(*NEIGHBOURS))
    bench.feed(Port.SERVER, server_frame(outgoing()))
    bench.do(bench.control.change_topology(without(PEER)))
    assert bench.feed(Port.SERVER, server_frame(outgoing())) == ([], [])
    assert [each[:2] for each in bench.unresolved] == [(Port.NETWORK, ip_address(PEER))]


def test_more_new_routes_than_there_is_room_for():
    """SAs that find no room for another route are done in software."""
    sas = [sa(0x2000 + n, reqid=n + 1) for n in range(3)]
    policies = [replace(policy(FORWARD, templates=[template(FORWARD, reqid=n + 1)]),
                        selectors=Selectors(ip_network("10.1.0.0/24"), ip_network(server))) for n, server in enumerate(SERVERS)]
    known = Topology(TOPOLOGY.interfaces.values(), TOPOLOGY.neighbours.values(), TOPOLOGY.routes, complete=False)
    bench = Host(sas, policies, replace(GATEWARE, routes=4), known)
    senders = [peer(one) for one in sas]

    def macs():
        return [bench.feed(Port.NETWORK, network_frame(sender.encapsulate(udp(THERE[4], server))))[1][0][:6]
                for sender, server in zip(senders, SERVERS, strict=True)]

    assert macs() == [mac(where) for where in SERVERS.values()]
    for number in range(4):
        others = [Neighbour(ip_address(server), Port.SERVER, bytes([2, 9, number, 0, 0, at])) for at, server in enumerate(SERVERS)]
        changed = Topology(known.interfaces.values(), [known.neighbours[Port.NETWORK, ip_address(PEER)], *others], known.routes, complete=False)
        bench.do(bench.control.change_topology(changed))
        assert macs() == [each.mac for each in others]


# What is for the host


IKE = UDP(sport=500, dport=500) / bytes(60)


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("port", [500, 4500])
@pytest.mark.parametrize("size", [60, 1500, 4000])
@pytest.mark.parametrize("default", [PolicyAction.BYPASS, PolicyAction.DISCARD])
def test_ike_comes_to_the_host_whole(version, port, size, default):
    """Also what comes in fragments and is longer than the gateway's longest frame."""
    bench = Host(settings=Settings(default=default))
    fields = {"id": 7} if version == 4 else {}
    packet = bytes(HEADERS[version](src=str(both.PEER[version]), dst=str(both.SELF[version]), **fields) / UDP(sport=port, dport=port) / bytes(size))
    pieces = fragments(packet, 1400, 7)
    assert bench.feed(Port.NETWORK, *map(network_frame, pieces)) == ([], [])
    [(header, got)] = bench.got
    assert header.ingress == Port.NETWORK and got == network_frame(packet)
    assert bench.control.consumed["ike"] == 1 and not bench.loop.drops


@pytest.mark.parametrize("sent", [
    Ether(src=PEER_MAC, dst="ff:ff:ff:ff:ff:ff") / ARP(psrc=PEER, pdst=SELF),
    Ether(src=PEER_MAC, dst="33:33:ff:00:00:02") / IPv6(src="2001:db8::1", dst="ff02::1:ff00:2", hlim=255) / ICMPv6ND_NS(tgt="2001:db8::2"),
    Ether(src=PEER_MAC, dst=SELF_MAC) / IPv6(src="2001:db8::1", dst="2001:db8::2", hlim=255) / ICMPv6ND_NS(tgt="2001:db8::2")])
def test_the_gateway_is_found_whatever_the_policies_say(sent):
    bench = Host(settings=Settings(default=PolicyAction.DISCARD))
    bench.feed(Port.NETWORK, bytes(sent))
    assert [got for _, got in bench.got] == [bytes(sent)] and not bench.loop.drops


def test_from_afar_there_is_no_neighbour_discovery():
    bench = Host(settings=Settings(default=PolicyAction.DISCARD))
    bench.feed(Port.NETWORK, network_frame(bytes(IPv6(src="2001:db8::1", dst="2001:db8::2", hlim=254) / ICMPv6ND_NS(tgt="2001:db8::2"))))
    assert not bench.got and bench.loop.drops == {Reason.POLICY: 1}


def test_through_a_tunnel_there_is_no_neighbour_discovery():
    bench = Host((), (), settings=Settings(default=PolicyAction.DISCARD))
    solicitation = bytes(IPv6(src=THERE[6], dst=HERE[6], hlim=255) / ICMPv6ND_NS(tgt=HERE[6]))
    bench.do(bench.control.handle(PuntHeader(Reason.IPV6, Port.RECIRCULATE, depth=1), network_frame(solicitation)))
    assert not bench.got and bench.control.software == {"bypassed": 1}, "it goes on like any other packet"


def test_what_policies_discard_does_not_come_to_the_host():
    bench = Host(settings=Settings(default=PolicyAction.DISCARD))
    bench.feed(Port.NETWORK, network_frame(bytes(IP(src=PEER, dst=SELF) / ICMP())))
    assert not bench.got and bench.loop.drops == {Reason.POLICY: 1}


@pytest.mark.parametrize("version", [4, 6])
def test_who_may_not_speak_in_the_clear_may_not_to_the_host_either(version):
    bench = Host((), (), settings=Settings(sources=(Source(ip_network(f"{both.PEER[version]}"), frozenset({Port.NETWORK})),)))
    packets = [both.udp(source, str(both.SELF[version])) for source in (str(both.PEER[version]), {4: "192.0.2.66", 6: "2001:db8::66"}[version])]
    bench.feed(Port.NETWORK, *map(network_frame, packets))
    bench.feed(Port.SERVER, server_frame(packets[0]))
    assert [(header.ingress, got) for header, got in bench.got] == [(Port.NETWORK, network_frame(packets[0]))]
    assert bench.loop.drops == {Reason.POLICY: 2}


@pytest.mark.parametrize("capabilities", [GATEWARE, SOFTWARE])
def test_what_is_decrypted_for_the_gateway_itself_comes_to_the_host(capabilities):
    bench = Host((INBOUND,), [replace(policy(FORWARD), selectors=Selectors(ip_network("10.1.0.0/24"), ip_network("10.2.0.1/32")))], capabilities)
    plain = udp(THERE[4], "10.2.0.1")
    assert bench.feed(Port.NETWORK, network_frame(peer(INBOUND).encapsulate(plain))) == ([], [])
    [(header, got)] = bench.got
    assert header.ingress == Port.RECIRCULATE and got[14:][-20:] == plain[-20:]


def test_what_the_host_says_in_the_clear_comes_back_to_it_to_be_sent():
    passed = Policy(selectors=Selectors(ip_network(f"{SELF}/32"), ip_network(f"{PEER}/32")), direction=OUT, action=PolicyAction.BYPASS)
    bench = Host((), [passed], settings=Settings(default=PolicyAction.DISCARD))
    own = frame(bytes(IP(src=SELF, dst=PEER) / ICMP()), SELF_MAC, PEER_MAC)
    other = frame(bytes(IP(src=SELF, dst="192.0.2.9") / ICMP()), SELF_MAC, PEER_MAC)

    async def inject():
        for one in (own, other):
            for outcome in bench.gateway.inject(0, Port.SERVER, 0, one):
                if hasattr(outcome, "header"):
                    await bench.control.handle(outcome.header, outcome.frame)

    bench.do(inject())
    assert [(header.ingress, got) for header, got in bench.got] == [(Port.SERVER, own)]
    assert bench.loop.drops == {Reason.POLICY: 1}


# SAs that move


NATT = {"encapsulation": Encapsulation(4500, 4500)}


@pytest.mark.parametrize("version", [4, 6])
def test_a_peer_that_is_heard_from_elsewhere_is_told(version):
    inbound = both.sa(version=version, **NATT)
    bench = Host((inbound,), [policy(FORWARD, version=version)])
    sender = peer(inbound)
    bench.feed(Port.NETWORK, network_frame(sender.encapsulate(incoming())))
    assert not bench.moved
    moved = peer(replace(inbound, sequence=10, encapsulation=Encapsulation(40500, 4500)))
    sealed = moved.encapsulate(incoming())
    forged = sealed[:-1] + bytes([sealed[-1] ^ 1])
    bench.feed(Port.NETWORK, network_frame(forged))
    assert not bench.moved, "whoever it was, it was not the peer"
    _, out = bench.feed(Port.NETWORK, network_frame(sealed))
    [(one, outer)] = bench.moved
    assert one == inbound and outer.ports == (40500, 4500) and len(out) == 1
    bench.feed(Port.NETWORK, network_frame(sealed))
    assert len(bench.moved) == 1, "a replay is no news"


@pytest.mark.parametrize("capabilities", [GATEWARE, SOFTWARE])
def test_sas_that_move_go_on(capabilities):
    bench = Host(capabilities=capabilities)
    sender = peer(INBOUND)
    first = network_frame(sender.encapsulate(incoming()))
    bench.feed(Port.NETWORK, first)
    one, _ = bench.feed(Port.SERVER, server_frame(outgoing()))
    before = {each: bench.do(bench.control.state(each)) for each in (INBOUND, OUTBOUND)}
    now = {each: replace(each, **NATT) for each in (INBOUND, OUTBOUND)}
    for each in (INBOUND, OUTBOUND):
        bench.do(bench.control.move_sa(each, now[each]))
        assert bench.control.refusals[now[each]] == MOVED
    state = bench.do(bench.control.state(now[INBOUND]))
    assert state == before[INBOUND]
    after = bench.do(bench.control.state(now[OUTBOUND]))
    assert after.sequence == before[OUTBOUND].sequence
    assert (after.bytes, after.packets) == (before[OUTBOUND].bytes, before[OUTBOUND].packets)
    # Outbound: in UDP now, with a number that was not used before.
    two, _ = bench.feed(Port.SERVER, server_frame(outgoing()))
    assert HEADERS[4](two[0][14:])[UDP].dport == 4500 and opened(two, now[OUTBOUND]) == [routed(outgoing())]
    assert int.from_bytes(one[0][38:42]) < int.from_bytes(two[0][46:50])
    # Inbound: the same numbers stay used up.
    in_udp = peer(now[INBOUND])
    assert bench.feed(Port.NETWORK, network_frame(in_udp.encapsulate(incoming()))) == ([], [])
    assert bench.loop.drops == {Reason.REPLAY: 1}
    assert len(bench.feed(Port.NETWORK, network_frame(in_udp.encapsulate(incoming())))[1]) == 1
    assert bench.feed(Port.NETWORK, first) == ([], []), "not in UDP any more"
    bench.now += 100 * QUIET_SECONDS
    bench.do(bench.control.give_back())
    assert set(bench.control.refusals) == set(now.values()), "they stay in software"


def test_an_sa_at_another_address():
    elsewhere = replace(INBOUND, source=ip_address("192.0.2.77"))
    bench = Host((INBOUND,))
    sender = peer(INBOUND)
    bench.feed(Port.NETWORK, network_frame(sender.encapsulate(incoming())))
    bench.do(bench.control.move_sa(INBOUND, elsewhere))
    sealed = sender.encapsulate(incoming())
    assert len(bench.feed(Port.NETWORK, network_frame(sealed))[1]) == 1
    assert bench.feed(Port.NETWORK, network_frame(sealed)) == ([], []) and bench.loop.drops == {Reason.REPLAY: 1}
    bench.do(bench.control.remove_sa(elsewhere))
    assert not bench.control.refusals and not bench.gateway._cam


def test_an_sa_that_was_not_at_work_moves_too():
    bench = Host((INBOUND,))
    bench.do(bench.control.move_sa(INBOUND, replace(INBOUND, **NATT)))
    assert not bench.control.refusals
    with pytest.raises(InputError, match="There is no inbound ESP SA 0x00001000"):
        bench.do(bench.control.move_sa(INBOUND, replace(INBOUND, **NATT)))


def test_how_far_an_sa_is_before_its_first_packet():
    bench = Host((replace(OUTBOUND, sequence=7),))
    assert bench.do(bench.control.state(replace(OUTBOUND, sequence=7))) == SaState(sequence=7)


# SAs that are done in software for a while


def in_software(bench, sender):
    """Lets fragments come that no DFE can do; what came out, and the frames."""
    pieces = fragments(sender.encapsulate(incoming(size=4000)), 1500, 5)
    return bench.feed(Port.NETWORK, *map(network_frame, pieces))[1], [network_frame(piece) for piece in pieces]


def test_an_inbound_sa_goes_to_software_and_comes_back_with_its_window():
    limited = replace(INBOUND, hard=Lifetime(packets=7), replay_window=64)
    bench = Host((limited,), [policy(FORWARD)])
    sender = peer(INBOUND)
    seen = [network_frame(sender.encapsulate(incoming())) for _ in range(3)]
    late = seen.pop(1)
    assert len(bench.feed(Port.NETWORK, *seen)[1]) == 2
    out, big = in_software(bench, sender)
    assert opened(out) == [routed(incoming(size=4000))] and bench.control.refusals == {limited: BEYOND}
    soft = bench.do(bench.control.state(limited))
    assert (soft.sequence, soft.window, soft.packets) == (4, 0b1011, 3)
    seen.append(network_frame(sender.encapsulate(incoming())))
    assert len(bench.feed(Port.NETWORK, seen[-1])[1]) == 1
    before = bench.do(bench.control.state(limited))
    bench.now += QUIET_SECONDS - 0.1
    bench.do(bench.control.give_back())
    assert bench.control.placed(limited).soft, "not yet"
    bench.now += 0.1
    bench.do(bench.control.give_back())
    assert bench.control.placed(limited).soft is None and not bench.control.refusals
    assert bench.do(bench.control.state(limited)) == before, "it goes on as it was"
    assert bench.feed(Port.NETWORK, *seen) == ([], []), "what came before comes no second time"
    assert bench.loop.drops == {Reason.REPLAY: 3} and bench.control.placed(limited).soft is None
    software = bench.control.software["decrypted"]
    assert len(bench.feed(Port.NETWORK, late)[1]) == 1, "nor is any lost"
    assert bench.control.software["decrypted"] == software, "a DFE has done it"
    assert bench.feed(Port.NETWORK, *big) == ([], []), "the fragments of before are a replay too"
    assert bench.loop.drops == {Reason.REPLAY: 4}
    counts = [len(bench.feed(Port.NETWORK, network_frame(sender.encapsulate(incoming())))[1]) for _ in range(3)]
    assert counts == [1, 1, 0] and bench.loop.drops[Reason.LIFETIME] == 1, "seven packets in all"


def test_an_outbound_sa_comes_back_with_greater_numbers():
    bench = Host((OUTBOUND,), [policy(OUT)])
    numbers = []

    def send(size=20):
        out, _ = bench.feed(Port.SERVER, server_frame(outgoing(size=size)))
        numbers.append(int.from_bytes(out[0][38:42]))
        assert opened(out, OUTBOUND) == [routed(outgoing(size=size))]

    for _ in range(3):
        send()
        send(1450)
        assert bench.control.refusals == {OUTBOUND: BEYOND}
        send()
        bench.now += QUIET_SECONDS
        bench.do(bench.control.give_back())
        assert not bench.control.refusals
        send()
    assert numbers == sorted(set(numbers)) and len(numbers) == 3 * 4
    assert bench.do(bench.control.state(OUTBOUND)).packets == 3 * 4


def test_what_a_dfe_could_have_done_does_not_keep_an_sa_in_software():
    bench = Host((OUTBOUND,), [policy(OUT)])
    bench.feed(Port.SERVER, server_frame(outgoing(size=1450)))
    for _ in range(4):
        bench.now += QUIET_SECONDS / 4
        bench.feed(Port.SERVER, server_frame(outgoing()))
    bench.do(bench.control.give_back())
    assert not bench.control.refusals
    bench.feed(Port.SERVER, server_frame(outgoing(size=1450)))
    bench.now += QUIET_SECONDS / 2
    bench.feed(Port.SERVER, *map(server_frame, fragments(outgoing(size=2000), 1000)))
    bench.now += QUIET_SECONDS / 2
    bench.do(bench.control.give_back())
    assert bench.control.refusals == {OUTBOUND: BEYOND}, "that one kept it"


def test_for_want_of_room_an_sa_is_in_software_for_a_while_too():
    """Not given back at once, to be taken over again by the next packet: each time costs numbers."""
    bench = Host((OUTBOUND,), [policy(OUT)], replace(GATEWARE, rules=0))
    bench.now = 100 * QUIET_SECONDS
    for _ in range(4):
        bench.feed(Port.SERVER, server_frame(outgoing()))
        bench.do(bench.control.give_back())
        assert bench.control.refusals == {OUTBOUND: BEYOND}
        bench.now += QUIET_SECONDS / 4
    bench.do(bench.control.give_back())
    assert not bench.control.refusals


@pytest.mark.parametrize(("changes", "why"), [
    ({"esn": True}, "extended sequence numbers"), ({"replay_window": 1024}, "replay windows of 1024"), ({**NATT}, "ESP in UDP")])
def test_what_a_dfe_cannot_do_does_not_come_back(changes, why):
    inbound = replace(INBOUND, **changes)
    bench = Host((inbound,), [policy(FORWARD)])
    bench.feed(Port.NETWORK, network_frame(peer(inbound).encapsulate(incoming())))
    bench.now += 100 * QUIET_SECONDS
    bench.do(bench.control.give_back())
    assert bench.control.refusals == {inbound: why}


def test_an_sa_inside_another_stays():
    sas, policies = both.bundle()
    bench = Host(sas, policies)
    plain = udp(str(PEER), str(SELF), 300)
    bench.feed(Port.NETWORK, network_frame(peer(sas[1]).encapsulate(peer(sas[0]).encapsulate(plain))))
    bench.now += 100 * QUIET_SECONDS
    bench.do(bench.control.give_back())
    assert bench.control.refusals[sas[0]] == INSIDE


def test_lifetimes_last_over_several_moves():
    """From DFE to DFE and through software: bytes and packets count on, and the state says all of them."""
    size = 20
    packet_bytes = 28 + size
    limited = replace(INBOUND, soft=Lifetime(packets=6), hard=Lifetime(packets=8, bytes=100 * packet_bytes))
    bench = Host((limited,), [policy(FORWARD)])
    sender = peer(INBOUND)

    def one():
        return len(bench.feed(Port.NETWORK, network_frame(sender.encapsulate(incoming(size=size))))[1])

    done = one() + one()
    for _ in range(4):
        dfe = bench.control.placed(limited).dfe
        bench.do(bench.control.configure(CfeSettings(enable=1 << 1 - dfe)))
        assert bench.do(bench.control.state(limited)) == SaState(done, (1 << done) - 1, packet_bytes * done, done)
        done += one()
        assert bench.control.placed(limited).dfe == 1 - dfe, "it has moved"
    assert bench.do(bench.control.state(limited)) == SaState(6, 0b111111, 6 * packet_bytes, 6)
    assert [event.reason for event, _ in bench.do(bench.control.poll())] == [Reason.SOFT_LIFETIME]
    assert [one() for _ in range(4)] == [1, 1, 0, 0]
    assert bench.do(bench.control.state(limited)).packets == 8
    assert bench.loop.drops == {Reason.LIFETIME: 2}


# What is never sent in the clear


def test_no_change_lets_anything_out_in_the_clear():
    """What a policy protects is encrypted or dropped, whatever happens to its SA and its peer's router meanwhile."""
    bench = Host((OUTBOUND,), [policy(OUT)], settings=Settings(default=PolicyAction.DISCARD), network=topology(*NEIGHBOURS))
    now = OUTBOUND

    def moved():
        nonlocal now
        before, now = now, replace(now, **NATT)
        return bench.control.move_sa(before, now)

    changes = [lambda: bench.control.change_topology(elsewhere(1)), lambda: bench.control.change_topology(without(PEER)),
               lambda: bench.control.change_topology(topology(*NEIGHBOURS)), bench.control.give_back, moved,
               lambda: bench.control.remove_sa(now)]
    for change in changes:
        bench.do(change())
        bench.now += QUIET_SECONDS
        out, back = bench.feed(Port.SERVER, server_frame(outgoing()), server_frame(outgoing(size=1450)))
        assert not any(bytes(range(8, 20)) in each for each in out) and not back
    assert bench.loop.drops == {Reason.NO_SA: 2}


def test_a_punted_packet_whose_sa_is_outbound_is_not_opened_with_it():
    """ESP of somebody behind the gateway with the name of an outbound SA."""
    bench = Host((OUTBOUND,), [policy(OUT)], settings=Settings(default=PolicyAction.DISCARD))
    bench.feed(Port.SERVER, server_frame(outgoing(size=1450)))
    assert bench.control.placed(OUTBOUND).soft
    foreign = bytes(IP(src=HERE[4], dst=PEER, proto=50) / (OUTBOUND.spi.to_bytes(4) + bytes(60)))
    header = PuntHeader(Reason.SA_ABSENT, Port.SERVER, bench.control.placed(OUTBOUND).dfe, bench.control.placed(OUTBOUND).index)
    bench.do(bench.control.handle(header, server_frame(rewrite(foreign, 20))))
    assert bench.loop.drops == {Reason.POLICY: 1}


# Transport mode: for the control element's own host, or for one behind the server port


@pytest.mark.parametrize("own_host", [True, False])
@pytest.mark.parametrize("capabilities", [GATEWARE, SOFTWARE])
def test_transport_mode_is_for_its_host(capabilities, own_host):
    inbound, outbound = (replace(each, mode=Mode.TRANSPORT) for each in (INBOUND, OUTBOUND))
    between = Selectors(ip_network(SELF), ip_network(PEER)), Selectors(ip_network(PEER), ip_network(SELF))
    policies = [bed_policy(direction, what, mode=Mode.TRANSPORT)
                for direction, what in zip((PolicyDirection.OUT, PolicyDirection.IN), between, strict=True)]
    bench = Host((inbound, outbound), policies, capabilities, settings=Settings(default=PolicyAction.DISCARD, own_host=own_host))
    plain = udp(PEER, SELF)
    for _ in range(2):
        out = bench.feed(Port.NETWORK, bench.sealed(inbound, plain))
        if own_host:
            assert out == ([], []) and bench.got.pop()[1][14:] == plain and not bench.got
        else:
            assert out[0] == [] and [one[14:] for one in out[1]] == [plain] and not bench.got
    answer = udp(SELF, PEER)
    one = frame(answer, SELF_MAC, PEER_MAC)
    sent = bench.send(one) if own_host else bench.feed(Port.SERVER, one)[0]
    opened_here = SoftSa(replace(outbound, direction=Direction.INBOUND)).decapsulate(sent[0][14:])
    assert opened_here == answer and sent[0][:12] == mac(PEER_MAC) + mac(SELF_MAC)
    assert bool(bench.control.refusals) == (capabilities is SOFTWARE)


@pytest.mark.parametrize("own_host", [True, False])
def test_frames_of_others_at_the_server_port_are_taken_only_in_front_of_a_host(own_host):
    policies = [bed_policy(PolicyDirection.OUT, Selectors(ip_network(SELF), ip_network(PEER)), mode=Mode.TRANSPORT)]
    bench = Host((), policies, settings=Settings(own_host=own_host))
    bench.feed(Port.SERVER, frame(udp(SELF, PEER), SELF_MAC, "02:00:00:00:00:77"))
    assert bench.gateway.drops[Reason.OTHER_STATION] == own_host


def test_a_path_that_takes_more_again_is_used_again():
    """A DFE's limit is that of the time when its SA was written: what fits by now is not refused."""
    bench = Host()
    bench.feed(Port.SERVER, server_frame(outgoing()))
    bench.control.placed(OUTBOUND).mtu = 600
    bench.do(bench.gateway.write_sa(bench.control.placed(OUTBOUND).dfe, bench.control.placed(OUTBOUND).index, replace(OUTBOUND, mtu=600), None))
    out, back = bench.feed(Port.SERVER, server_frame(outgoing(size=1000, flags="DF")))
    assert len(out) == 1 and back == [] and bench.control.refusals == {OUTBOUND: BEYOND}
    bench.now += QUIET_SECONDS
    bench.do(bench.control.give_back())
    out, back = bench.feed(Port.SERVER, server_frame(outgoing(size=1000, flags="DF")))
    assert len(out) == 1 and back == [] and not bench.control.refusals


def test_the_host_hears_that_its_own_packet_is_too_long():
    policies = [bed_policy(PolicyDirection.OUT, Selectors(ip_network("10.2.0.0/24"), ip_network("10.1.0.0/16")))]
    bench = Host((OUTBOUND,), policies, network=TOPOLOGY, settings=Settings(own_host=True))
    long = bytes(IP(src="10.2.0.1", dst="10.1.0.10", flags="DF") / UDP(sport=1, dport=2) / bytes(1440))
    assert bench.feed(Port.SERVER, frame(long, INSIDE_MAC, INSIDE_MAC)) == ([], [])
    [(_, message)] = bench.got
    assert IP(message[14:])[ICMP].type == 3 and IP(message[14:]).dst == "10.2.0.1"


@pytest.mark.parametrize(("inside", "why"), [((6,), "IPv6"), ((4, 6), BEYOND)])
def test_an_sa_for_ipv6_alone_never_goes_to_a_dfe(inside, why):
    bench = Host((OUTBOUND,), [both.policy(OUT, version) for version in inside])
    plain = outgoing(6)
    for _ in range(2):
        out, _ = bench.feed(Port.SERVER, server_frame(plain))
        assert opened(out, OUTBOUND) == [routed(plain)] and bench.control.refusals == {OUTBOUND: why}
        bench.now += QUIET_SECONDS
        bench.do(bench.control.give_back())
        assert bool(bench.control.refusals) == (why != BEYOND)
