# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Random worlds with what :mod:`tests.firmware_py.differential` has not: IPv6 inside and outside, transport
mode, AH, and SAs inside others, beside what RFC 4301's text says
(:mod:`tests.firmware_py.ipsec.rfc4301`)."""

import random
from collections import Counter
from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network

from spigate.firmware_py.control.element import ControlElement
from spigate.firmware_py.control.loop import Loop, SoftPort
from spigate.firmware_py.control.settings import Settings
from spigate.firmware_py.control.topology import Interface, Neighbour, NetworkRoute, Topology
from spigate.firmware_py.ipsec.packet import (
    ETHERTYPES,
    ICMP,
    ICMPV6,
    TCP,
    UDP,
    ipv4_header,
    ipv6_header,
    rewrite,
)
from spigate.firmware_py.ipsec.policy import Policy, PolicyAction, PolicyDirection, Template
from spigate.firmware_py.ipsec.sa import AH, ESP, Auth, Cipher, Sa, Selectors
from spigate.firmware_py.ipsec.soft_sa import SoftSa
from spigate.firmware_py.tables.interface import GATEWARE
from spigate.firmware_py.tables.model import SoftGateway
from spigate.hdl.contract.enums import Direction, Mode, Port
from tests.firmware_py.differential import Wrong
from tests.firmware_py.ipsec import rfc4301

PACKETS = 150
"""In a world."""
PUNTS = 6
"""That one packet may cause."""
SELF = {4: ip_address("192.0.2.2"), 6: ip_address("2001:db8::2")}
INSIDE = {4: ip_address("10.2.0.1"), 6: ip_address("2001:db8:2::1")}
LOCAL = {*SELF.values(), *INSIDE.values()}
PEERS = [{4: ip_address(f"192.0.2.10{number}"), 6: ip_address(f"2001:db8::10{number}")} for number in (1, 2)]
SERVERS = [*map(ip_address, ("10.2.0.10", "10.2.0.11", "2001:db8:2::10"))]
ROUTERS = {4: ip_address("192.0.2.254"), 6: ip_address("2001:db8::fe")}
NETWORKS = {
    version: [*map(ip_network, networks)]
    for version, networks in {
        4: (
            "0.0.0.0/0",
            "10.1.0.0/16",
            "10.1.0.0/24",
            "10.2.0.0/24",
            "10.2.0.10/32",
            "192.0.2.0/24",
            "192.0.2.2/32",
            "192.0.2.101/32",
            "10.2.0.1/32",
        ),
        6: (
            "::/0",
            "2001:db8:1::/48",
            "2001:db8:2::/64",
            "2001:db8:2::10/128",
            "2001:db8::2/128",
            "2001:db8::101/128",
        ),
    }.items()
}
HOSTS = {
    version: [
        *map(ip_address, hosts),
        SELF[version],
        INSIDE[version],
        *(peer[version] for peer in PEERS),
        *(server for server in SERVERS if server.version == version),
    ]
    for version, hosts in {
        4: ("10.1.0.5", "10.1.9.9", "198.51.100.1"),
        6: ("2001:db8:1::5", "2001:db8:9::9"),
    }.items()
}
ANYWHERE = ip_address("0.0.0.0")
KINDS = {  # reqid: mode, protocol, IP version outside, peer
    1: (Mode.TUNNEL, ESP, 4, 0),
    2: (Mode.TUNNEL, ESP, 6, 0),
    3: (Mode.TRANSPORT, ESP, 4, 0),
    4: (Mode.TRANSPORT, AH, 4, 0),
    5: (Mode.TUNNEL, ESP, 4, 1),
    6: (Mode.TUNNEL, AH, 4, 1),
    7: (Mode.TRANSPORT, ESP, 6, 0),
}
TUNNELS = [(1,), (1,), (2,), (5,), (5,), (6,), (1, 4), (1, 5), (1, 6), (2, 5)]
"""Reqids of a policy's templates, innermost first."""
TRANSPORTS = {4: [(3,), (3, 4)], 6: [(7,)]}
PORT_NUMBERS = (53, 80, 1024, 2000)


def mac(address) -> bytes:
    return bytes([2, address.version]) + address.packed[-4:]


def side(address) -> str:
    return (
        "server"
        if address in ip_network("10.2.0.0/24" if address.version == 4 else "2001:db8:2::/64")
        else "network"
    )


TOPOLOGY = Topology(
    [
        Interface(
            "outside",
            Port.NETWORK,
            mac(SELF[4]),
            tuple(map(ip_interface, ("192.0.2.2/24", "2001:db8::2/64"))),
        ),
        Interface(
            "inside",
            Port.SERVER,
            mac(INSIDE[4]),
            tuple(map(ip_interface, ("10.2.0.1/24", "2001:db8:2::1/64"))),
        ),
    ],
    [
        *(
            Neighbour(each, Port.NETWORK, mac(each))
            for each in (*ROUTERS.values(), *(end for peer in PEERS for end in peer.values()))
        ),
        *(Neighbour(each, Port.SERVER, mac(each)) for each in SERVERS),
    ],
    [
        NetworkRoute(ip_network("0.0.0.0/0"), Port.NETWORK, ROUTERS[4]),
        NetworkRoute(ip_network("::/0"), Port.NETWORK, ROUTERS[6]),
    ],
    complete=False,
)


class World:
    """Policies and SAs, and packets that may meet them."""

    def __init__(self, seed: int):
        self.random = draw = random.Random(seed)
        self.default = draw.choice(("bypass", "discard"))
        self._spis = iter(range(0x1000, 1 << 20))
        self.policies = [self.policy() for _ in range(draw.choice((2, 4, 8, 16, 30)))]
        self.sas = [sa for reqid in KINDS if draw.random() < 0.85 for sa in self.child(reqid)]
        self._peers: dict[int, SoftSa] = {}
        self._recent: list[tuple] = []

    def child(self, reqid: int) -> list[Sa]:
        mode, protocol, version, peer = KINDS[reqid]
        made = []
        for direction in Direction:
            spi = next(self._spis)
            ends = (PEERS[peer][version], SELF[version])[:: 1 if direction == Direction.INBOUND else -1]
            suite = (
                {"cipher": Cipher.AES_GCM, "key": spi.to_bytes(16), "salt": bytes(4), "icv_bytes": 16}
                if protocol == ESP
                else {"auth": Auth.HMAC_SHA256_128, "auth_key": spi.to_bytes(32)}
            )
            made.append(
                Sa(
                    direction=direction,
                    spi=spi,
                    source=ends[0],
                    destination=ends[1],
                    mode=mode,
                    protocol=protocol,
                    reqid=reqid,
                    **suite,
                )
            )
        return made

    def policy(self) -> Policy:
        draw = self.random
        version, action = draw.choice((4, 4, 6)), draw.choices(list(PolicyAction), (8, 2, 1))[0]
        direction = draw.choices(
            (PolicyDirection.OUT, PolicyDirection.IN, PolicyDirection.FORWARD), (4, 2, 2)
        )[0]
        protocol = draw.choice((None, None, UDP, TCP))
        ports = [
            draw.choice(((0, 65535), (0, 65535), (53, 53), (1024, 65535))) if protocol else (0, 65535)
            for _ in range(2)
        ]
        ends, reqids = [draw.choice(NETWORKS[version]) for _ in range(2)], draw.choice(TUNNELS)
        if action == PolicyAction.PROTECT and draw.random() < 0.3:
            ends, reqids = (
                [ip_network(PEERS[0][version]), ip_network(SELF[version])],
                draw.choice(TRANSPORTS[version]),
            )
            ends = ends[::-1] if direction == PolicyDirection.OUT else ends
        templates = tuple(
            Template(
                source=ANYWHERE,
                destination=ANYWHERE,
                mode=KINDS[reqid][0],
                protocol=KINDS[reqid][1],
                reqid=reqid,
            )
            for reqid in reqids
        )
        return Policy(
            selectors=Selectors(*ends, protocol, *ports),
            direction=direction,
            action=action,
            templates=templates if action == PolicyAction.PROTECT else (),
            priority=draw.randrange(3),
        )

    def change(self) -> tuple[str, object]:
        draw = self.random
        kind = draw.choice(("add_sa", "remove_sa", "add_policy", "remove_policy"))
        kept = self.sas if kind.endswith("sa") else self.policies
        if kind.startswith("remove") and kept:
            what = draw.choice(kept)
            kept.remove(what)
        else:
            kind = kind.replace("remove", "add")
            what = draw.choice(self.child(draw.choice(list(KINDS)))) if kind == "add_sa" else self.policy()
            kept.append(what)
        return kind, what

    def arrival(self) -> tuple[str, tuple, tuple]:
        """Where the next packet comes in, its flow, and the SAs that it comes out of, innermost first."""
        while True:
            if self._recent and self.random.random() < 0.4:
                found = self.random.choice(self._recent)
            else:
                found = self._new()
                self._recent = [*self._recent[-30:], found]
            (source, destination, *_), through, sound = found[1], found[2], found[1][0] != found[1][1]
            for sa in through:
                sound &= sa in self.sas and (
                    sa.mode == Mode.TUNNEL or (source, destination) == (sa.source, sa.destination)
                )
                source, destination = sa.source, sa.destination
            if sound:
                return found

    def _new(self) -> tuple[str, tuple, tuple]:
        draw = self.random
        policy = draw.choice(self.policies) if self.policies and draw.random() < 0.85 else None
        version = policy.selectors.source.version if policy else draw.choice((4, 6))
        ends = [
            draw.choice(
                [host for host in HOSTS[version] if policy is None or host in network] or HOSTS[version]
            )
            for network in (
                (policy.selectors.source, policy.selectors.destination) if policy else (None, None)
            )
        ]
        protocol = (policy and policy.selectors.protocol) or draw.choice(
            (UDP, TCP, ICMP if version == 4 else ICMPV6)
        )
        ports = None if protocol in (ICMP, ICMPV6) else (draw.choice(PORT_NUMBERS), draw.choice(PORT_NUMBERS))
        inbound, through = [sa for sa in self.sas if sa.direction == Direction.INBOUND], ()
        if policy and policy.templates and policy.direction != PolicyDirection.OUT and draw.random() < 0.7:
            asked = [[sa for sa in inbound if template.accepts(sa)] for template in policy.templates]
            asked = asked[:1] if draw.random() < 0.2 else asked
            through = tuple(map(draw.choice, asked)) if all(asked) else ()
        elif inbound and draw.random() < 0.2:
            through = (draw.choice(inbound),)
        return (
            "recirculate" if through else draw.choice(("server", "network")),
            (*ends, protocol, ports),
            through,
        )

    def peer(self, sa: Sa) -> SoftSa:
        return self._peers.setdefault(sa.spi, SoftSa(replace(sa, direction=Direction(1 - sa.direction))))

    def expected(self, ingress: str, flow: tuple, through: tuple) -> tuple[str, list[Sa]]:
        """What the text says, and by which SAs. ``any``: a policy asks for transport mode between others'
        addresses.
        """
        action, entry = rfc4301.Gateway(self.policies, self.default, LOCAL, side).decide(
            flow, ingress, list(through)
        )
        if action != "protect":
            return "host" if action == "bypass" and flow[0] in LOCAL else action, []
        chains = [
            [
                next(
                    (
                        sa
                        for sa in reversed(self.sas)
                        if sa.direction == Direction.OUTBOUND and template.accepts(sa)
                    ),
                    None,
                )
                for template in policy.templates
            ]
            for policy in entry
        ]
        chains = [chain for chain in chains if all(chain)]
        for chain in chains:
            ends = flow[:2]
            for sa in chain:
                if sa.mode == Mode.TRANSPORT and ends != (sa.source, sa.destination):
                    return "any", []
                ends = sa.source, sa.destination
        return (
            ("protect", max(chains, key=lambda chain: self.sas.index(chain[-1])))
            if chains
            else ("discard", [])
        )


async def layers(seed: int, capabilities=GATEWARE) -> Counter:
    """A world through a control element and the model of the gateware. Counts what was expected."""
    world = World(seed)
    draw = world.random
    model = SoftGateway(capabilities=replace(capabilities, rules=draw.choice((4, 32))))
    port, got = SoftPort(model), []
    control = ControlElement(
        tables=model,
        port=port,
        topology=TOPOLOGY,
        sas=list(world.sas),
        policies=list(world.policies),
        clock=lambda: 0.0,
        settings=Settings(default=PolicyAction(world.default), own_host=True),
    )
    control.on_host = lambda header, one: got.append(one[14:])
    loop = Loop(model, control, port)
    await control.start()
    counts: Counter[str] = Counter()
    for _ in range(PACKETS):
        if draw.random() < 0.04:
            kind, what = world.change()
            await getattr(control, kind)(what)
        ingress, flow, through = world.arrival()
        source, destination, protocol, ports = flow
        payload = (ports[0].to_bytes(2) + ports[1].to_bytes(2) if ports else b"\x80\0\0\0") + draw.randbytes(
            20
        )
        packet = (ipv4_header if source.version == 4 else ipv6_header)(
            source, destination, protocol, len(payload)
        ) + payload
        counted, sealed = rewrite(packet, len(packet) - len(payload), ttl=63), packet
        for sa in through:
            sealed = world.peer(sa).encapsulate(sealed)
        at, own = (Port.SERVER, INSIDE) if ingress == "server" else (Port.NETWORK, SELF)
        punts = len(loop.punted)
        await loop.feed(at, mac(own[4]) + mac(ROUTERS[4]) + ETHERTYPES[sealed[0] >> 4].to_bytes(2) + sealed)
        action, chain = world.expected(ingress, flow, through)
        sent = [(where, one[14:]) for where, each in loop.sent.items() for one in each]
        if action == "protect" and len(sent) == 1:
            inside = sent[0][1]
            for sa in reversed(chain):
                inside = world.peer(sa).decapsulate(inside)
            sent = [(sent[0][0], inside)]
        passed = packet if all(sa.mode == Mode.TRANSPORT for sa in chain) else counted
        to = Port.NETWORK if action == "protect" or side(destination) == "network" else Port.SERVER
        wanted = {
            "discard": ([], []),
            "host": ([], [packet]),
            "bypass": ([(to, counted)], []),
            "protect": ([(to, passed)], []),
        }
        if action != "any" and (sent, got) != wanted[action] or len(loop.punted) - punts > PUNTS:
            raise Wrong(
                f"seed {seed}, {ingress} {flow} {through}: expected {action} {chain}, sent {sent}, host {got}, "
                f"{loop.drops} {control.consumed}, {len(loop.punted) - punts} punts"
            )
        counts[action, len(through), len(chain), source.version] += 1
        for each in (*loop.sent.values(), got):
            each.clear()
    return counts
