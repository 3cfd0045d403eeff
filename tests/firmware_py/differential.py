# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Random policies, SAs and flows: every data plane beside what RFC 4301's text says
(:mod:`tests.firmware_py.ipsec.rfc4301`).

``python -m tests.firmware_py.differential --count N`` does N packets in each data plane (``make fuzz``);
with ``--seed`` it does one world again.
"""

import argparse
import asyncio
import random
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from ipaddress import ip_address, ip_interface, ip_network

from spigate.firmware_py.control.element import ControlElement
from spigate.firmware_py.control.loop import Loop, SoftPort
from spigate.firmware_py.control.settings import Settings
from spigate.firmware_py.control.topology import Interface, Neighbour, NetworkRoute, Topology
from spigate.firmware_py.daemon.plane import Plane
from spigate.firmware_py.ike.engine.actions import AddPolicy, InstallSa, RemovePolicy, RemoveSa
from spigate.firmware_py.ike.peers.pad import Pad
from spigate.firmware_py.ipsec.packet import ipv4_header, rewrite
from spigate.firmware_py.ipsec.policy import Policy, PolicyAction, PolicyDirection, Template
from spigate.firmware_py.ipsec.sa import Cipher, Sa, Selectors
from spigate.firmware_py.ipsec.soft_sa import SoftSa
from spigate.firmware_py.tables.interface import GATEWARE, SOFTWARE, CfeSettings
from spigate.firmware_py.tables.model import SoftGateway
from spigate.hdl.contract.enums import Direction, Mode, Port
from tests.firmware_py.ipsec import rfc4301

SELF, INSIDE = ip_address("192.0.2.2"), ip_address("10.2.0.1")
LOCAL = {SELF, INSIDE}
PEERS = {reqid: ip_address(f"192.0.2.{100 + reqid}") for reqid in (1, 2, 3, 4)}
ROUTER = ip_address("192.0.2.254")
SERVERS = [ip_address(f"10.2.0.{number}") for number in (10, 11, 12)]
DEEPER = ip_address("10.2.0.20")
MACS = {
    address: b"\2\0" + address.packed for address in (SELF, INSIDE, ROUTER, DEEPER, *PEERS.values(), *SERVERS)
}
TOPOLOGY = Topology(
    [
        Interface("outside", Port.NETWORK, MACS[SELF], (ip_interface(f"{SELF}/24"),)),
        Interface("inside", Port.SERVER, MACS[INSIDE], (ip_interface(f"{INSIDE}/24"),)),
    ],
    [
        *(Neighbour(address, Port.NETWORK, MACS[address]) for address in (ROUTER, *PEERS.values())),
        *(Neighbour(address, Port.SERVER, MACS[address]) for address in (DEEPER, *SERVERS)),
    ],
    [
        NetworkRoute(ip_network("0.0.0.0/0"), Port.NETWORK, ROUTER),
        NetworkRoute(ip_network("10.4.0.0/16"), Port.SERVER, DEEPER),
    ],
)
NETWORKS = [
    *map(
        ip_network,
        (
            "0.0.0.0/0",
            "10.0.0.0/8",
            "10.1.0.0/16",
            "10.1.0.0/24",
            "10.1.0.0/25",
            "10.1.0.10/32",
            "10.2.0.0/24",
            "10.2.0.0/24",
            "10.2.0.8/29",
            "10.2.0.10/32",
            "10.3.0.0/24",
            "10.3.0.0/24",
            "10.4.0.0/16",
            "192.0.2.0/24",
            "192.0.2.2/32",
            "10.2.0.1/32",
        ),
    )
]
HOSTS = [
    *map(ip_address, ("10.1.0.10", "10.1.0.200", "10.1.7.7", "10.3.0.30", "10.4.1.1", "198.51.100.9")),
    *SERVERS,
    *PEERS.values(),
    SELF,
    INSIDE,
]
PORT_RANGES = [(0, 65535), (0, 65535), (53, 53), (0, 1023), (1024, 65535)]
PORTS = [53, 80, 1000, 2000, 1023, 1024]
UNSPECIFIED = ip_address("0.0.0.0")
PACKETS = 200
"""In a world."""
PUNTS = 4
"""That one packet may cause."""


@dataclass
class Expected:
    """What becomes of a packet: ``discard``, ``host``, ``bypass`` or ``protect`` by the SA ``spi`` (None:
    there is none).
    """

    action: str
    packet: bytes
    spi: int | None = None
    next_hop: bytes = b""
    port: Port | None = None

    @property
    def counted(self) -> bytes:
        """The packet with its time to live counted down."""
        return rewrite(self.packet, 20, ttl=self.packet[8] - 1)


@dataclass
class World:
    """Policies, SAs, and a way through them. ``local``, ``sides`` and ``default`` as in
    :class:`rfc4301.Gateway`.
    """

    seed: int
    default: str = "discard"
    tun: bool = False
    policies: list[Policy] = field(default_factory=list)
    sas: list[Sa] = field(default_factory=list)

    def __post_init__(self):
        self.random = random.Random(self.seed)
        self.local = LOCAL
        self._spis = iter(range(0x1000, 1 << 20))
        self._peers: dict[int, SoftSa] = {}
        draw = self.random
        self.policies = [self.policy() for _ in range(draw.choice((2, 4, 8, 16, 40)))]
        for reqid in PEERS:
            self.sas += self.child(reqid) if draw.random() < 0.85 else []
        self._recent: list[tuple] = []
        self._oracle: rfc4301.Gateway | None = None

    def policy(self) -> Policy:
        draw = self.random
        action = draw.choices(list(PolicyAction), (8, 2, 1))[0]
        reqid = draw.choice(list(PEERS))
        template = Template(
            source=UNSPECIFIED,
            destination=UNSPECIFIED,
            mode=Mode.TUNNEL,
            reqid=reqid,
            optional=draw.random() < 0.05,
        )
        protocol = draw.choice((None, None, None, 17, 6))
        ports = [draw.choice(PORT_RANGES) if protocol else (0, 65535) for _ in range(2)]
        if self.policies and draw.random() < 0.15:
            selectors = draw.choice(self.policies).selectors
        else:
            selectors = Selectors(draw.choice(NETWORKS), draw.choice(NETWORKS), protocol, *ports)
        return Policy(
            selectors=selectors,
            direction=draw.choices(
                (PolicyDirection.OUT, PolicyDirection.IN, PolicyDirection.FORWARD), (4, 1, 3)
            )[0],
            action=action,
            templates=(template,) if action == PolicyAction.PROTECT else (),
            priority=draw.randrange(3),
        )

    def child(self, reqid: int) -> list[Sa]:
        """A new pair of SAs."""
        made = []
        for direction in Direction:
            spi = next(self._spis)
            ends = (PEERS[reqid], SELF) if direction == Direction.INBOUND else (SELF, PEERS[reqid])
            made.append(
                Sa(
                    direction=direction,
                    spi=spi,
                    source=ends[0],
                    destination=ends[1],
                    mode=Mode.TUNNEL,
                    cipher=Cipher.AES_GCM,
                    key=spi.to_bytes(16),
                    salt=bytes(4),
                    icv_bytes=16,
                    reqid=reqid,
                    replay_window=64,
                )
            )
        return made

    def change(self) -> tuple[str, object]:
        """Something else from now on: ``add_sa``, ``remove_sa``, ``add_policy``, ``remove_policy`` and
        what.
        """
        draw = self.random
        self._oracle = None
        kind = draw.choice(("add_sa", "remove_sa", "add_policy", "remove_policy"))
        if kind == "add_sa":
            what = draw.choice(self.child(draw.choice(list(PEERS))))
            self.sas.append(what)
        elif kind == "remove_sa" and self.sas:
            what = draw.choice(self.sas)
            self.sas.remove(what)
        elif kind == "remove_policy" and self.policies:
            what = draw.choice(self.policies)
            # Of twins, which nobody can tell apart, the first one stays: so the database keeps its place.
            del self.policies[max(at for at, policy in enumerate(self.policies) if policy == what)]
        else:
            kind, what = "add_policy", self.policy()
            self.policies.append(what)
        return kind, what

    def arrival(self) -> tuple[str, bytes, Sa | None]:
        """Where the next packet comes in, what it is, and the inbound SA that it comes out of."""
        draw = self.random
        if self._recent and draw.random() < 0.5:
            ingress, flow, sa = draw.choice(self._recent)
            if sa is not None and sa not in self.sas:
                return self.arrival()
        else:
            ingress, flow, sa = self.new_flow()
            self._recent = [*self._recent[-40:], (ingress, flow, sa)]
        source, destination, protocol, ports = flow
        payload = (ports[0].to_bytes(2) + ports[1].to_bytes(2) if ports else b"\x08\0\0\0") + draw.randbytes(
            20
        )
        return ingress, ipv4_header(source, destination, protocol, len(payload)) + payload, sa

    def new_flow(self) -> tuple[str, tuple, Sa | None]:
        """Mostly what a policy is about, and where that one is asked; out of an SA that it names."""
        draw = self.random
        policy = draw.choice(self.policies) if self.policies and draw.random() < 0.8 else None
        sources, destinations = (
            [host for host in HOSTS if policy is None or host in network]
            for network in (
                (policy.selectors.source, policy.selectors.destination) if policy else (None, None)
            )
        )
        source = draw.choice(sources or HOSTS)
        destination = draw.choice(
            [host for host in destinations or HOSTS if host != source]
            or [host for host in HOSTS if host != source]
        )
        protocol = (policy and policy.selectors.protocol) or draw.choice((1, 6, 17, 17))
        named = {template.reqid for template in policy.templates} if policy else set()
        inbound = [sa for sa in self.sas if sa.direction == Direction.INBOUND]
        wanted = [sa for sa in inbound if sa.reqid in named] or inbound
        outward = policy is not None and policy.direction == PolicyDirection.OUT
        sa = draw.choice(wanted) if wanted and draw.random() < (0.2 if outward else 0.7) else None
        ingress = (
            "recirculate"
            if sa
            else "server"
            if self.tun or draw.random() < (0.8 if outward else 0.2)
            else "network"
        )
        return (
            ingress,
            (
                source,
                destination,
                protocol,
                None if protocol == 1 else (draw.choice(PORTS), draw.choice(PORTS)),
            ),
            sa,
        )

    def sealed(self, sa: Sa, packet: bytes) -> bytes:
        """``packet`` as the peer of an inbound SA sends it."""
        peer = self._peers.setdefault(sa.spi, SoftSa(replace(sa, direction=Direction.OUTBOUND)))
        return peer.encapsulate(packet)

    def opened(self, packet: bytes) -> bytes:
        """What is in a packet that an outbound SA of ours has made."""
        spi = int.from_bytes(packet[20:24])
        sa = next(sa for sa in self.sas if sa.spi == spi)
        peer = self._peers.setdefault(spi, SoftSa(replace(sa, direction=Direction.INBOUND)))
        return peer.decapsulate(packet)

    def expected(self, ingress: str, packet: bytes, sa: Sa | None) -> Expected:
        """What the text says."""
        protocol = packet[9]
        flow = (
            ip_address(packet[12:16]),
            ip_address(packet[16:20]),
            protocol,
            None if protocol == 1 else (int.from_bytes(packet[20:22]), int.from_bytes(packet[22:24])),
        )
        if self._oracle is None:
            self._oracle = rfc4301.Gateway(
                self.policies,
                self.default,
                self.local,
                lambda address: "server" if self.tun else side(address),
            )
        oracle = self._oracle
        action, entry = oracle.decide(flow, ingress, [sa] if sa else [])
        if action == "protect":
            reqids = {policy.templates[0].reqid for policy in entry}
            newest = next(
                (
                    one
                    for one in reversed(self.sas)
                    if one.direction == Direction.OUTBOUND and one.reqid in reqids
                ),
                None,
            )
            if newest is None:
                return Expected("discard", packet)
            return Expected(action, packet, newest.spi, MACS[newest.destination], Port.NETWORK)
        if action == "bypass" and flow[0] in self.local and not self.tun:
            return Expected(
                "host", packet
            )  # whose own it may be: it knows where it sent it, and sends it there, or not
        if action == "bypass":
            return Expected(
                action,
                packet,
                None,
                MACS[hop(flow[1])] if not self.tun else b"",
                Port.SERVER if side(flow[1]) == "server" else Port.NETWORK,
            )
        return Expected(action, packet)


def side(address) -> str:
    """Where an address lies, said once more than in TOPOLOGY."""
    return "server" if str(address).startswith(("10.2.0.", "10.4.")) else "network"


def hop(address):
    if str(address).startswith("10.4."):
        return DEEPER
    return address if str(address).startswith(("10.2.0.", "192.0.2.")) else ROUTER


def frame(port: Port, packet: bytes) -> bytes:
    own, other = (SELF, ROUTER) if port == Port.NETWORK else (INSIDE, SERVERS[0])
    return MACS[own] + MACS[other] + b"\x08\0" + packet


def canonical(world: World, port: Port, one: bytes) -> tuple:
    """What a frame that left is, whoever made it: port, next hop, the SA that it is protected by (None:
    none), the clear packet.
    """
    if one[23] != 50:
        return port, one[:6], None, one[14:]
    return port, one[:6], int.from_bytes(one[34:38]), world.opened(one[14:])


def wanted(expected: list[Expected]) -> tuple[Counter, Counter]:
    """What must leave, as :func:`canonical`, and what the host must get, of several packets, in any order."""
    return (
        Counter(
            (each.port, each.next_hop, each.spi, each.counted)
            for each in expected
            if each.action in ("protect", "bypass")
        ),
        Counter(each.packet for each in expected if each.action == "host"),
    )


class Wrong(AssertionError):
    """A data plane did something else than the text says."""


def check(world: World, expected: Expected, sent: dict[Port, list[bytes]], host: list[bytes]) -> None:
    """Raises :class:`Wrong` where what left and what the host got is not what was expected."""

    def must(holds: bool, what: str) -> None:
        if not holds:
            raise Wrong(f"seed {world.seed}: {what}: expected {expected}, sent {sent}, host {host}")

    frames = [(port, one) for port, each in sent.items() for one in each]
    if expected.action == "discard":
        must(not frames and not host, "not discarded")
    elif expected.action == "host":
        must(not frames and [one[14:] for one in host] == [expected.packet], "not for the host")
    else:
        must(len(frames) == 1 and not host, "not one packet")
        ((port, one),) = frames
        must(port == expected.port and one[:6] == expected.next_hop, "the wrong way")
        if expected.action == "bypass":
            must(one[14:] == expected.counted, "not as it was")
        else:
            must(one[23] == 50 and int.from_bytes(one[34:38]) == expected.spi, "not by that SA")
            must(world.opened(one[14:]) == expected.counted, "something else inside")


async def gateway(seed: int, *, capabilities=GATEWARE, packets: int = PACKETS) -> Counter:
    """A world through a control element and the model of the gateware; with SOFTWARE, through the control
    element alone.
    """
    draw = random.Random(seed)
    world = World(seed, draw.choice(("bypass", "discard")))
    model = SoftGateway(capabilities=replace(capabilities, rules=draw.choice((4, 32))))
    port, got = SoftPort(model), []
    control = ControlElement(
        tables=model,
        port=port,
        topology=TOPOLOGY,
        sas=list(world.sas),
        policies=list(world.policies),
        clock=lambda: 0.0,
        settings=Settings(default=PolicyAction(world.default), own_host=True, cfe=CfeSettings()),
    )
    control.on_host = lambda header, one: got.append(one)
    loop = Loop(model, control, port)
    await control.start()
    counts: Counter[str] = Counter()
    for _ in range(packets):
        if world.random.random() < 0.03:
            kind, what = world.change()
            await getattr(control, kind)(what)
        ingress, packet, sa = world.arrival()
        at = Port.SERVER if ingress == "server" else Port.NETWORK
        punts = len(loop.punted)
        await loop.feed(at, frame(at, world.sealed(sa, packet) if sa else packet))
        expected = world.expected(ingress, packet, sa)
        try:
            check(world, expected, loop.sent, got)
        except Exception as error:
            raise Wrong(
                f"seed {seed}, {ingress} {sa}, rules {model._rules}, decided "
                f"{loop.drops} {control.consumed}: {error!r}"
            ) from error
        if len(loop.punted) - punts > PUNTS or control.consumed["loop"]:
            raise Wrong(f"seed {seed}: {len(loop.punted) - punts} punts of one packet, {control.consumed}")
        counts[expected.action] += 1
        loop.sent[Port.NETWORK].clear()
        loop.sent[Port.SERVER].clear()
        got.clear()
    counts["punts"] = len(loop.punted)
    return counts


async def plane(seed: int, packets: int = PACKETS) -> Counter:
    """A world through a host's TUN device."""
    world = World(seed, tun=True)
    made, onward = Plane(Pad(), policies=list(world.policies), clock=lambda: 0.0, local=lambda: LOCAL), []
    made.on_network = onward.extend
    for sa in world.sas:
        made.apply(InstallSa("peer", "child", sa))
    outputs = {
        "add_sa": lambda sa: InstallSa("peer", "child", sa),
        "remove_sa": RemoveSa,
        "add_policy": AddPolicy,
        "remove_policy": RemovePolicy,
    }
    counts: Counter[str] = Counter()
    for _ in range(packets):
        if world.random.random() < 0.03:
            kind, what = world.change()
            made.apply(outputs[kind](what))
        ingress, packet, sa = world.arrival()
        plain, out = (
            (made.receive(world.sealed(sa, packet)), list(onward)) if sa else (None, made.send(packet))
        )
        onward.clear()
        expected = world.expected(ingress, packet, sa)
        if expected.action == "protect":
            inside = (
                world.opened(out[0])
                if len(out) == 1 and out[0][9] == 50 and int.from_bytes(out[0][20:24]) == expected.spi
                else None
            )
            right = plain is None and inside == (expected.counted if sa else packet)
        elif expected.action == "bypass" or (expected.action == "host" and sa):
            right = (plain, out) == ((packet, []) if sa else (None, [packet]))
        else:
            right = (plain, out) == (None, [])
        if not right:
            raise Wrong(
                f"seed {seed}, {ingress} {sa}: expected {expected}, to the host {plain}, to the network {out}, {made.drops}"
            )
        counts[expected.action] += 1
    return counts


PLANES = {
    "gateware": lambda seed: gateway(seed),
    "software": lambda seed: gateway(seed, capabilities=SOFTWARE),
    "plane": plane,
}


def run(name: str, count: int, seed: int) -> Counter:
    """``count`` packets or more in the data plane ``name``, world after world from ``seed`` on."""

    async def worlds() -> Counter:
        counts: Counter[str] = Counter()
        for number in range(-(-count // PACKETS)):
            counts += await PLANES[name](seed + number)
        return counts

    return asyncio.run(worlds())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=None)
    arguments = parser.parse_args()
    seed = random.randrange(1 << 32) if arguments.seed is None else arguments.seed
    for name in PLANES:
        begun = time.monotonic()
        print(f"{name}, seed {seed}: ", end="", flush=True)
        counts = run(name, arguments.count, seed)
        print(f"{dict(counts)} in {time.monotonic() - begun:.0f} s", flush=True)


if __name__ == "__main__":
    main()
