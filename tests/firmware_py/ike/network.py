# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Endpoints on a network that loses, delays, reorders and doubles datagrams, with a clock of its own."""

import heapq
import random
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address, ip_network
from itertools import count

from spigate.firmware_py.ike.crypto.proposals import parse
from spigate.firmware_py.ike.engine.actions import (
    AddPolicy,
    Datagram,
    Event,
    InstallSa,
    KeyLog,
    MoveSa,
    RemovePolicy,
    RemoveSa,
    Socket,
)
from spigate.firmware_py.ike.engine.context import Settings
from spigate.firmware_py.ike.engine.endpoint import Endpoint
from spigate.firmware_py.ike.peers.identities import Identity
from spigate.firmware_py.ike.peers.pad import ChildConfig, Pad, Peer, PreSharedKey
from spigate.firmware_py.ike.wire import selectors
from spigate.firmware_py.ike.wire.registry import ProtocolId
from spigate.firmware_py.ipsec.sa import Sa, Selectors
from spigate.hdl.contract.enums import Direction

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
SECRET = PreSharedKey(b"a secret of two peers")


@dataclass
class DataPlane:
    """What a host's SAs and policies are, after what its endpoint wanted; strict about what cannot be."""

    inbound: dict[int, Sa] = field(default_factory=dict)
    outbound: list[Sa] = field(default_factory=list)
    policies: list = field(default_factory=list)

    def apply(self, output) -> None:
        match output:
            case InstallSa(sa=sa) if sa.direction == Direction.INBOUND:
                assert sa.spi not in self.inbound
                self.inbound[sa.spi] = sa
            case InstallSa(sa=sa):
                assert sa not in self.outbound
                self.outbound.append(sa)
            case RemoveSa(sa=sa) if sa.direction == Direction.INBOUND:
                assert self.inbound.pop(sa.spi) == sa
            case RemoveSa(sa=sa):
                self.outbound.remove(sa)
            case MoveSa(old=old, new=new) if new.direction == Direction.INBOUND:
                assert self.inbound[new.spi] == old
                self.inbound[new.spi] = new
            case MoveSa(old=old, new=new):
                self.outbound[self.outbound.index(old)] = new
            case AddPolicy(policy=policy):
                assert policy not in self.policies
                self.policies.append(policy)
            case RemovePolicy(policy=policy):
                self.policies.remove(policy)

    @property
    def sending(self) -> dict[int, Sa]:
        """By reqid, the SA that is sent on: the one that was installed last."""
        return {sa.reqid: sa for sa in self.outbound}


class Host:
    """An endpoint and its data plane, at one address."""

    def __init__(
        self, network: "Network", name: str, address: str, peers: list[Peer], settings: Settings | None
    ):
        self.network = network
        self.name = name
        self.address = ip_address(address)
        self.peers = peers
        self.settings = settings
        self.events: list[Event] = []
        self.key_log: list[str] = []
        self.boot()

    def boot(self) -> None:
        """Starts anew, with nothing known of before."""
        self.endpoint = Endpoint(
            Pad(self.peers),
            self.settings,
            random=self.network.random.randbytes,
            utc=lambda: BEGIN + timedelta(seconds=self.network.now),
        )
        self.plane = DataPlane()

    def kinds(self) -> Counter:
        return Counter(event.kind.value for event in self.events)

    def settle(self) -> None:
        """Does what the endpoint wants."""
        for output in self.endpoint.take():
            if isinstance(output, Datagram):
                self.network.send(output)
            elif isinstance(output, Event):
                self.events.append(output)
            elif isinstance(output, KeyLog):
                self.key_log.append(output.line)
            else:
                self.plane.apply(output)

    def __getattr__(self, name: str):
        """The endpoint's commands, at the network's time: ``host.initiate("peer")``."""
        method = getattr(self.endpoint, name)

        def call(*arguments, **named):
            result = method(self.network.now, *arguments, **named)
            self.settle()
            return result

        return call

    @property
    def children(self) -> list:
        return [child for ike in self.endpoint.ikes for child in ike.children.values()]

    @property
    def standing(self) -> list:
        return [ike for ike in self.endpoint.ikes if ike.state.name == "ESTABLISHED"]


class Network:
    """Parameters
    ----------
    seed : int
    loss, double : float
        Probability that a datagram is lost, and that it comes twice.
    delay : (float, float)
        Seconds, at random between these; more than a request takes means reordering.
    """

    def __init__(
        self,
        seed: int = 0,
        *,
        loss: float = 0.0,
        double: float = 0.0,
        delay: tuple[float, float] = (0.01, 0.01),
    ):
        self.random = random.Random(seed)
        self.loss, self.double, self.delay = loss, double, delay
        self.now = 0.0
        self.hosts: list[Host] = []
        self.seen: list[Datagram] = []
        self.filters: list = []
        self.watchers: list = []
        self._flying: list = []
        self._order = count()

    def host(self, name: str, address: str, *peers: Peer, settings: Settings | None = None) -> Host:
        host = Host(self, name, address, list(peers), settings)
        self.hosts.append(host)
        return host

    def send(self, datagram: Datagram) -> None:
        self.seen.append(datagram)
        for each in self.filters:
            datagram = each(datagram)
            if datagram is None:
                return
        if self.random.random() < self.loss:
            return
        for _ in range(2 if self.random.random() < self.double else 1):
            heapq.heappush(
                self._flying, (self.now + self.random.uniform(*self.delay), next(self._order), datagram)
            )

    def run(self, seconds: float) -> None:
        """Lets ``seconds`` pass."""
        end = self.now + seconds
        while True:
            timers = [host.endpoint.next_timer for host in self.hosts]
            due = min(
                [each for each in timers if each is not None] + [entry[0] for entry in self._flying[:1]],
                default=end + 1,
            )
            if due > end:
                self.now = end
                return
            self.now = max(self.now, due)
            self._step()
            for watch in self.watchers:
                watch()

    def _step(self) -> None:
        if self._flying and self._flying[0][0] <= self.now:
            datagram = heapq.heappop(self._flying)[2]
            for host in self.hosts:
                if host.address == datagram.destination.address:
                    host.endpoint.receive(self.now, datagram.data, datagram.destination, datagram.source)
                    host.settle()
        for host in self.hosts:
            host.endpoint.tick(self.now)
            host.settle()


class Nat:
    """Puts ``outside`` for ``inside``, with ports of its own; the port changes when :meth:`forget` is
    called.
    """

    def __init__(self, network: Network, inside: str, outside: str):
        self.inside, self.outside = ip_address(inside), ip_address(outside)
        self.ports: dict[int, int] = {}
        self._next = 20000
        network.filters.append(self)

    def forget(self) -> None:
        self.ports = {}

    def __call__(self, datagram: Datagram) -> Datagram | None:
        if datagram.source.address == self.inside:
            if datagram.source.port not in self.ports:
                self._next += 1
                self.ports[datagram.source.port] = self._next
            return Datagram(
                Socket(self.outside, self.ports[datagram.source.port]), datagram.destination, datagram.data
            )
        if datagram.destination.address == self.outside:
            inner = [inside for inside, port in self.ports.items() if port == datagram.destination.port]
            return Datagram(datagram.source, Socket(self.inside, inner[0]), datagram.data) if inner else None
        return datagram


def net(text: str, *rest) -> Selectors:
    """``10.1.0.0/24=10.2.0.0/24`` and what else Selectors takes."""
    source, destination = text.split("=")
    return Selectors(ip_network(source), ip_network(destination), *rest)


def ike(text: str):
    return (parse(text, ProtocolId.IKE),)


def esp(text: str):
    return (parse(text, ProtocolId.ESP),)


FAST_IKE = ike("aes128gcm16-prfsha256-curve25519")
FAST_ESP = esp("aes128gcm16")


def peer(name: str, own: str, other: str, **settings) -> Peer:
    """How one of two hosts, A (192.0.2.1) or B (192.0.2.2), is told of the other; fast algorithms unless
    said.
    """
    address = {"a": "192.0.2.1", "b": "192.0.2.2", "c": "192.0.2.3"}
    values = {
        "proposals": FAST_IKE,
        "local_credential": SECRET,
        "remote_credential": SECRET,
        "local_identity": Identity.parse(f"{own}.example"),
        "remote_identity": f"{other}.example",
        "address": ip_address(address[other]),
        "local_address": ip_address(address[own]),
    }
    return Peer(name=name, **{**values, **settings})


def child(name: str = "net", traffic: str = "10.1.0.0/24=10.2.0.0/24", **settings) -> ChildConfig:
    return ChildConfig(
        name=name, **{"traffic": (net(traffic),) if traffic else (), "proposals": FAST_ESP, **settings}
    )


def reverse(config: ChildConfig) -> ChildConfig:
    """The same child, as the other side is told of it."""
    return replace(config, traffic=selectors.reverse(config.traffic))


def pair(
    *children: ChildConfig,
    seed: int = 0,
    a: dict | None = None,
    b: dict | None = None,
    settings: Settings | None = None,
    **network,
) -> tuple[Network, Host, Host]:
    """A network with A and B, who know each other and these children."""
    net_ = Network(seed, **network)
    children = children or (child(),)
    host_a = net_.host(
        "a", "192.0.2.1", peer("b", "a", "b", **{"children": children, **(a or {})}), settings=settings
    )
    host_b = net_.host(
        "b",
        "192.0.2.2",
        peer("a", "b", "a", **{"children": tuple(map(reverse, children)), **(b or {})}),
        settings=settings,
    )
    return net_, host_a, host_b


def joined(one: Host, other: Host) -> bool:
    """Whether what either sends on can be received by the other, with the same keys: a tunnel works, both
    ways.
    """

    def heard(sender: Host, receiver: Host) -> bool:
        def same(sa: Sa) -> bool:
            twin = receiver.plane.inbound.get(sa.spi)
            return twin is not None and (
                twin.key,
                twin.salt,
                twin.auth_key,
                twin.cipher,
                twin.auth,
                twin.esn,
                twin.mode,
                twin.protocol,
            ) == (sa.key, sa.salt, sa.auth_key, sa.cipher, sa.auth, sa.esn, sa.mode, sa.protocol)

        sending = sender.plane.sending
        return bool(sending) and all(map(same, sending.values()))

    return heard(one, other) and heard(other, one)
