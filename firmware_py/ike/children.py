"""One child SA: its pair of :class:`~spigate.firmware_py.sa.Sa`, the policies that lead to it, and its life."""
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from ipaddress import ip_address
from typing import TYPE_CHECKING

from spigate.firmware_py.ike import selectors
from spigate.firmware_py.ike.events import EventKind, InstallSa, MoveSa, RemoveSa
from spigate.firmware_py.ike.keys import ChildKeys, TrafficKeys
from spigate.firmware_py.ike.nat import Path
from spigate.firmware_py.ike.pad import ChildConfig, ip_protocol
from spigate.firmware_py.ike.proposals import Suite
from spigate.firmware_py.policy import Policy, PolicyAction, PolicyDirection, Template
from spigate.firmware_py.sa import Direction, Encapsulation, Lifetime, Mode, Sa, Selectors

if TYPE_CHECKING:
    from spigate.firmware_py.ike.ike_sa import IkeSa

UNSPECIFIED = {4: ip_address("0.0.0.0"), 6: ip_address("::")}


@dataclass(frozen=True)
class Agreement:
    """What two peers agreed on for a child SA, except for its keys.

    Members
    -------
    config : ChildConfig
    suite : Suite
    mode : Mode
    traffic : tuple of Selectors
        Source: this side.
    spi_in, spi_out : int
        What this side receives on, and the peer.
    """

    config: ChildConfig
    suite: Suite
    mode: Mode
    traffic: tuple[Selectors, ...]
    spi_in: int
    spi_out: int


class ChildState(Enum):
    """INSTALLED also while it is being rekeyed; REPLACED: it has a successor, and its end is a matter of time."""

    INSTALLED = auto()
    REPLACED = auto()
    DELETING = auto()
    GONE = auto()


@dataclass(eq=False)
class ChildSa:
    """Parameters
    ----------
    ike : IkeSa
        The IKE SA that it belongs to.
    agreement : Agreement
    keys : ChildKeys
    initiator : bool
        This side began the exchange that made it.
    reqid : int

    Members
    -------
    inbound, outbound : Sa
    state : ChildState
    successor : ChildSa or None
        What replaces it.
    rekeying : bool
        An exchange of this side's that replaces it is on its way.
    rival : (ChildSa, bytes) or None
        What a peer's exchange made to replace it meanwhile, and the lowest nonce of that (RFC 7296 2.8.1).
    """

    ike: "IkeSa"
    agreement: Agreement
    keys: ChildKeys = field(repr=False)
    initiator: bool
    reqid: int
    state: ChildState = ChildState.INSTALLED
    successor: "ChildSa | None" = None
    rekeying: bool = False
    rival: "tuple[ChildSa, bytes] | None" = None

    def __post_init__(self):
        sending, receiving = self.keys.initiator, self.keys.responder
        if not self.initiator:
            sending, receiving = receiving, sending
        path = self.ike.path
        local, remote = path.local.address, path.remote.address
        soft = self._soft()
        self._soft_seconds = soft.seconds
        soft = replace(soft, seconds=None)
        self.inbound = self._sa(Direction.INBOUND, self.agreement.spi_in, receiving, remote, local, path, soft)
        self.outbound = self._sa(Direction.OUTBOUND, self.agreement.spi_out, sending, local, remote, path, soft)
        self.policies = tuple(_policies(self.agreement, self.reqid))
        self.keys = None  # they live on in the two Sa
        self._outbound_in_use = False
        self._timers = []

    @property
    def config(self) -> ChildConfig:
        return self.agreement.config

    def _soft(self) -> Lifetime:
        """The configured soft limits, each shortened by a random part."""
        shorter = 1 - self.config.jitter * self.ike.context.fraction()
        limits = {name: getattr(self.config.soft, name) for name in ("bytes", "packets", "seconds")}
        return Lifetime(**{name: limit and max(1, int(limit * shorter)) for name, limit in limits.items()})

    def _sa(self, direction: Direction, spi: int, keys: TrafficKeys, source, destination, path: Path,
            soft: Lifetime) -> Sa:
        suite, config = self.agreement.suite, self.config
        return Sa(direction=direction, spi=spi, source=source, destination=destination, mode=self.agreement.mode,
                  protocol=ip_protocol(suite.protocol), cipher=suite.cipher, key=keys.key, salt=keys.salt,
                  icv_bytes=suite.icv_bytes, auth=suite.auth, auth_key=keys.auth_key, esn=suite.esn,
                  replay_window=config.replay_window, soft=soft, hard=config.hard, mtu=config.mtu, reqid=self.reqid,
                  encapsulation=self._encapsulation(direction, path))

    def _encapsulation(self, direction: Direction, path: Path) -> Encapsulation | None:
        outbound = path.encapsulation()
        if outbound is None or direction == Direction.OUTBOUND:
            return outbound
        return Encapsulation(outbound.destination_port, outbound.source_port, self.ike.peer.zero_checksum)

    def install(self, now: float, *, outbound: bool) -> None:
        """Begins to receive, and, with ``outbound``, to send on it."""
        ike = self.ike
        ike.children[self.inbound.spi] = self
        ike.context.emit(InstallSa(ike.peer.name, self.config.name, self.inbound))
        for policy in self.policies:
            ike.context.hold_policy(policy)
        if outbound:
            self.use()
        timers = ike.context.timers
        if self._soft_seconds is not None:
            self._timers.append(timers.at(now + self._soft_seconds, lambda then: self.ike.rekey_child(self, then)))
        if self.config.hard.seconds is not None:
            self._timers.append(timers.at(now + self.config.hard.seconds,
                                          lambda then: self.ike.delete_child(self, then, "its lifetime is over")))

    def use(self) -> None:
        """Sends on it from now on."""
        if not self._outbound_in_use and self.state != ChildState.GONE:
            self._outbound_in_use = True
            self.ike.context.emit(InstallSa(self.ike.peer.name, self.config.name, self.outbound))

    def replace_by(self, successor: "ChildSa") -> None:
        """``successor`` is to take its place when it goes."""
        self.successor = successor
        self.state = ChildState.REPLACED

    def move(self, path: Path) -> None:
        """The way to the peer is another."""
        for name, direction in (("inbound", Direction.INBOUND), ("outbound", Direction.OUTBOUND)):
            old = getattr(self, name)
            ends = (path.local.address, path.remote.address)
            source, destination = ends if direction == Direction.OUTBOUND else reversed(ends)
            new = replace(old, source=source, destination=destination, encapsulation=self._encapsulation(direction, path))
            setattr(self, name, new)
            if new != old and (direction == Direction.INBOUND or self._outbound_in_use):
                self.ike.context.emit(MoveSa(old, new))

    def remove(self, now: float, why: str) -> None:
        """Ends it, here and now, except that where a successor takes over, the inbound one lingers: the peer may
        have sent on it until a moment ago."""
        if self.state == ChildState.GONE:
            return
        self.state = ChildState.GONE
        ike, context = self.ike, self.ike.context
        ike.children.pop(self.inbound.spi, None)
        for timer in self._timers:
            timer.cancel()
        if self.rival is not None and self.successor is None:  # the peer knows of its own exchange alone
            self.successor = self.rival[0]
        replaced = self.successor is not None and self.successor.state != ChildState.GONE
        if replaced:
            self.successor.use()
        if self._outbound_in_use:
            context.emit(RemoveSa(self.outbound))
        for policy in self.policies:
            context.release_policy(policy)
        if replaced:
            context.timers.at(now + context.settings.linger_seconds, lambda then: self._remove_inbound())
            ike.event(EventKind.CHILD_REKEYED, f"{self.inbound.spi:08x} gave way to {self.successor}", self.config.name)
        else:
            self._remove_inbound()
            ike.event(EventKind.CHILD_DOWN, f"{self}: {why}", self.config.name)

    def _remove_inbound(self) -> None:
        self.ike.context.emit(RemoveSa(self.inbound))
        self.ike.context.free_spi(self.inbound.spi)

    def __str__(self):
        return f"{self.config.label}, {self.inbound.spi:08x} in, {self.outbound.spi:08x} out, {self.outbound.suite}"


def _policies(agreement: Agreement, reqid: int) -> Sequence[Policy]:
    """What leads to the child. Its addresses may change, so that the templates name it by ``reqid`` alone."""
    inward = [PolicyDirection.IN] if agreement.mode == Mode.TRANSPORT else [PolicyDirection.IN, PolicyDirection.FORWARD]
    backwards = selectors.reverse(agreement.traffic)
    ways = [(PolicyDirection.OUT, agreement.traffic), *((direction, backwards) for direction in inward)]
    for direction, traffic in ways:
        for each in traffic:
            anywhere = UNSPECIFIED[each.source.version]
            template = Template(source=anywhere, destination=anywhere, mode=agreement.mode,
                                protocol=ip_protocol(agreement.suite.protocol), reqid=reqid)
            yield Policy(selectors=each, direction=direction, action=PolicyAction.PROTECT, templates=(template,))
