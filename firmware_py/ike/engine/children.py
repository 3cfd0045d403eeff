# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""One child SA: its pair of :class:`~spigate.firmware_py.ipsec.sa.Sa`, the policies that lead to it, and
its life.
"""

from collections.abc import Callable, Iterator
from dataclasses import InitVar, dataclass, field, replace
from enum import Enum, auto
from ipaddress import ip_address
from typing import TYPE_CHECKING

from spigate.firmware_py.ike.crypto.keys import ChildKeys, TrafficKeys
from spigate.firmware_py.ike.crypto.proposals import Suite
from spigate.firmware_py.ike.engine.actions import EventKind, InstallSa, MoveSa, RemoveSa
from spigate.firmware_py.ike.engine.holdings import Holdings
from spigate.firmware_py.ike.engine.nat import Path
from spigate.firmware_py.ike.engine.timers import Timer
from spigate.firmware_py.ike.peers.pad import ChildConfig, ip_protocol
from spigate.firmware_py.ike.wire import selectors
from spigate.firmware_py.ipsec.policy import Policy, PolicyAction, PolicyDirection, Template
from spigate.firmware_py.ipsec.sa import Address, Encapsulation, Lifetime, Sa, Selectors
from spigate.hdl.contract.enums import Direction, Mode

if TYPE_CHECKING:
    from spigate.firmware_py.ike.engine.create_child import CreateChild
    from spigate.firmware_py.ike.engine.ike_sa import IkeSa

REPLACED_SECONDS = 180.0
"""So long a child SA waits for its deletion by the peer that replaced it."""
AGAIN_SECONDS = 5.0
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
    """INSTALLED also while it is being rekeyed; REPLACED: it has a successor, and its end is a matter of
    time.
    """

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
        They live on in the two Sa.
    initiator : bool
        This side began the exchange that made it.
    reqid : int
    held : Holdings
        Where the SPI is that it receives on; from :meth:`install` on, nothing but that.

    Members
    -------
    inbound, outbound : Sa
    state : ChildState
    successor, replaces : ChildSa or None
        What replaces it; what it replaces, as long as that stands.
    rekeying : CreateChild or None
        The exchange of this side's that is to replace it and is on its way.
    rival : (ChildSa, bytes) or None
        What a peer's exchange made to replace it meanwhile, and the lowest nonce of that (RFC 7296 2.8.1).
    """

    ike: "IkeSa"
    agreement: Agreement
    keys: InitVar[ChildKeys]
    initiator: bool
    reqid: int
    held: Holdings = field(repr=False)
    state: ChildState = ChildState.INSTALLED
    successor: "ChildSa | None" = field(default=None, repr=False)
    replaces: "ChildSa | None" = field(default=None, repr=False)
    rekeying: "CreateChild | None" = field(default=None, repr=False)
    rival: "tuple[ChildSa, bytes] | None" = None

    def __post_init__(self, keys: ChildKeys) -> None:
        sending, receiving = keys.initiator, keys.responder
        if not self.initiator:
            sending, receiving = receiving, sending
        path = self.ike.path
        local, remote = path.local.address, path.remote.address
        soft = self._soft()
        self._soft_seconds = soft.seconds
        soft = replace(soft, seconds=None)
        self.inbound = self._sa(
            Direction.INBOUND, self.agreement.spi_in, receiving, remote, local, path, soft
        )
        self.outbound = self._sa(
            Direction.OUTBOUND, self.agreement.spi_out, sending, local, remote, path, soft
        )
        self.policies = tuple(_policies(self.agreement, self.reqid))
        self._outbound_in_use = False
        self._soft_over = False
        self._timers: list[Timer] = []

    @property
    def config(self) -> ChildConfig:
        return self.agreement.config

    @property
    def live_rival(self) -> "tuple[ChildSa, bytes] | None":
        """The rival, unless it is gone again."""
        return self.rival if self.rival is not None and self.rival[0].state != ChildState.GONE else None

    def _soft(self) -> Lifetime:
        """The configured soft limits, each shortened by a random part."""
        shorter = 1 - self.config.jitter * self.ike.context.fraction()
        limits = {name: getattr(self.config.soft, name) for name in ("bytes", "packets", "seconds")}
        return Lifetime(**{name: limit and max(1, int(limit * shorter)) for name, limit in limits.items()})

    def _sa(
        self,
        direction: Direction,
        spi: int,
        keys: TrafficKeys,
        source: Address,
        destination: Address,
        path: Path,
        soft: Lifetime,
    ) -> Sa:
        suite, config = self.agreement.suite, self.config
        return Sa(
            direction=direction,
            spi=spi,
            source=source,
            destination=destination,
            mode=self.agreement.mode,
            protocol=ip_protocol(suite.protocol),
            cipher=suite.cipher,
            key=keys.key,
            salt=keys.salt,
            icv_bytes=suite.icv_bytes,
            auth=suite.auth,
            auth_key=keys.auth_key,
            esn=suite.esn,
            replay_window=config.replay_window,
            soft=soft,
            hard=config.hard,
            mtu=config.mtu,
            reqid=self.reqid,
            encapsulation=self._encapsulation(direction, path),
        )

    def _encapsulation(self, direction: Direction, path: Path) -> Encapsulation | None:
        outbound = path.encapsulation()
        if outbound is None or direction == Direction.OUTBOUND:
            return outbound
        return Encapsulation(outbound.destination_port, outbound.source_port, self.ike.entry.zero_checksum)

    def install(self, now: float, *, outbound: bool) -> None:
        """Begins to receive, and, with ``outbound``, to send on it."""
        ike = self.ike
        self.held = self.held.take(self.inbound.spi)
        ike.children[self.inbound.spi] = self
        ike.context.emit(InstallSa(ike.entry.name, self.config.name, self.inbound))
        for policy in self.policies:
            ike.context.hold_policy(policy)
        if outbound:
            self.use()
        if self._soft_seconds is not None:
            self._at(now + self._soft_seconds, self._soft_is_over)
        if self.config.hard.seconds is not None:
            self._at(now + self.config.hard.seconds, lambda then: self.end(then, "its lifetime is over"))

    def _at(self, when: float, call: Callable[[float], None]) -> None:
        self._timers = [timer for timer in self._timers if timer.active]
        self._timers.append(self.ike.context.timers.at(when, call, lambda: self.ike))

    def _soft_is_over(self, now: float) -> None:
        self._soft_over = True
        self.ike.rekey_child(self, now)

    def end(self, now: float, why: str) -> None:
        """A hard limit: it ends at once, whether the peer answers or not, which is told afterwards."""
        self.remove(now, why, at_once=True)
        self.ike.forget_child(self, now)

    def use(self) -> None:
        """Sends on it from now on."""
        if not self._outbound_in_use and self.state != ChildState.GONE:
            self._outbound_in_use = True
            self.ike.context.emit(InstallSa(self.ike.entry.name, self.config.name, self.outbound))

    def replace_by(self, successor: "ChildSa", now: float) -> None:
        """``successor`` is to take its place when it goes, by the peer's deletion or this side's; if both
        forget, after a while."""
        self.successor, successor.replaces = successor, self
        self.state = ChildState.REPLACED
        self._at(now + REPLACED_SECONDS, self._never_deleted)

    def _never_deleted(self, now: float) -> None:
        if self.state == ChildState.REPLACED:
            self.ike.delete_child(self, now, "replaced, and never deleted")

    def _successor_is_gone(self, now: float) -> None:
        """What replaced it was deleted, and it was not: it is in use as before, and replaced again if it is
        time.
        """
        self.successor = None
        if self.state == ChildState.REPLACED:
            self.state = ChildState.INSTALLED
            if self._soft_over:
                self._at(now + AGAIN_SECONDS, self._soft_is_over)

    def rekeying_is_over(self, exchange: "CreateChild", now: float) -> None:
        """An exchange that was to replace it ended, whichever way, and no other one took its place. If it
        did not replace it, the peer's did."""
        if self.rekeying is not exchange:
            return
        self.rekeying = None
        rival = self.live_rival
        if rival is not None and self.state == ChildState.INSTALLED:
            self.replace_by(rival[0], now)

    def move(self, path: Path) -> None:
        """The way to the peer is another."""
        for name, direction in (("inbound", Direction.INBOUND), ("outbound", Direction.OUTBOUND)):
            old = getattr(self, name)
            ends = (path.local.address, path.remote.address)
            source, destination = ends if direction == Direction.OUTBOUND else reversed(ends)
            new = replace(
                old,
                source=source,
                destination=destination,
                encapsulation=self._encapsulation(direction, path),
            )
            setattr(self, name, new)
            if new != old and (direction == Direction.INBOUND or self._outbound_in_use):
                self.ike.context.emit(MoveSa(old, new))

    def remove(self, now: float, why: str, *, at_once: bool = False) -> None:
        """Ends it, here and now, except that where a successor takes over, and not ``at_once``, the inbound
        one lingers: the peer may have sent on it until a moment ago."""
        if self.state == ChildState.GONE:
            return
        self.state = ChildState.GONE
        ike, context = self.ike, self.ike.context
        ike.children.pop(self.inbound.spi, None)
        for timer in self._timers:
            timer.cancel()
        successor, self.successor = self.successor, None
        rival = self.live_rival
        if rival is not None and successor is None:  # the peer knows of its own exchange alone
            successor = rival[0]
        if successor is not None and successor.state == ChildState.GONE:
            successor = None
        if successor is not None:
            successor.use()
            successor.replaces = None
        if self._outbound_in_use:
            context.emit(RemoveSa(self.outbound))
        for policy in self.policies:
            context.release_policy(policy)
        if successor is not None and not at_once:
            context.timers.at(now + context.settings.linger_seconds, lambda then: self._remove_inbound())
        else:
            self._remove_inbound()
        former, self.replaces = self.replaces, None
        if former is not None:
            former._successor_is_gone(now)
        if successor is not None:
            ike.event(
                EventKind.CHILD_REKEYED, f"{self.inbound.spi:08x} gave way to {successor}", self.config.name
            )
        else:
            ike.event(EventKind.CHILD_DOWN, f"{self}: {why}", self.config.name)

    def _remove_inbound(self) -> None:
        self.ike.context.emit(RemoveSa(self.inbound))
        self.held.release()

    def is_of(self, sa: Sa) -> bool:
        """Whether ``sa``, as the data plane knows it, is one of its two. Two peers may choose one SPI for
        what they receive on; keys are nobody else's."""
        own = self.inbound if sa.direction == Direction.INBOUND else self.outbound
        return (own.spi, own.protocol, own.key, own.salt, own.auth_key) == (
            sa.spi,
            sa.protocol,
            sa.key,
            sa.salt,
            sa.auth_key,
        )

    def __str__(self) -> str:
        return (
            f"{self.config.label}, {self.inbound.spi:08x} in, {self.outbound.spi:08x} out, "
            f"{self.outbound.suite}"
            f"{', ESN' * self.outbound.esn}, {selectors.pairs_text(self.agreement.traffic)}"
        )


def _policies(agreement: Agreement, reqid: int) -> Iterator[Policy]:
    """What leads to the child. Its addresses may change, so that the templates name it by ``reqid`` alone."""
    inward = (
        [PolicyDirection.IN]
        if agreement.mode == Mode.TRANSPORT
        else [PolicyDirection.IN, PolicyDirection.FORWARD]
    )
    backwards = selectors.reverse(agreement.traffic)
    ways = [(PolicyDirection.OUT, agreement.traffic), *((direction, backwards) for direction in inward)]
    for direction, traffic in ways:
        for each in traffic:
            anywhere = UNSPECIFIED[each.source.version]
            template = Template(
                source=anywhere,
                destination=anywhere,
                mode=agreement.mode,
                protocol=ip_protocol(agreement.suite.protocol),
                reqid=reqid,
            )
            yield Policy(
                selectors=each, direction=direction, action=PolicyAction.PROTECT, templates=(template,)
            )
