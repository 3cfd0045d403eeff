# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The Peer Authorization Database (RFC 4301 4.4.3): who may take part, as whom, shown how, and for which
traffic.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from ipaddress import ip_network

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

from spigate.firmware_py.errors import InputError
from spigate.firmware_py.ike.crypto import proposals
from spigate.firmware_py.ike.crypto.proposals import Suite
from spigate.firmware_py.ike.peers.certificates import Authorities
from spigate.firmware_py.ike.peers.identities import Identity
from spigate.firmware_py.ike.peers.retransmission import Retransmission
from spigate.firmware_py.ike.wire import selectors
from spigate.firmware_py.ike.wire.errors import AuthenticationFailed, NoProposalChosen
from spigate.firmware_py.ike.wire.registry import ProtocolId, TransformType
from spigate.firmware_py.ike.wire.structures import Proposal
from spigate.firmware_py.ipsec.sa import ANY_PORTS, ESP, Address, Lifetime, Network, Selectors
from spigate.firmware_py.words import counted
from spigate.hdl.contract.enums import Mode

MAX_PAIRS = 64
"""Pairs of networks that one child SA may have."""
ANYWHERE = (ip_network("0.0.0.0/0"), ip_network("::/0"))


def _check(holds: bool, name: str, expected: str, value: object) -> None:
    if not holds:
        raise InputError(f"{name} must be {expected}, not {value!r}")


def is_host(address: Address) -> bool:
    """Whether a datagram can be sent from or to it: it is no group's, nobody's or everybody's, nor one that
    says nothing without a device."""
    return not (
        address.is_unspecified
        or address.is_multicast
        or int(address) == 0xFFFF_FFFF
        or address.version == 6
        and (address.is_link_local or address.scope_id is not None)
    )


@dataclass(frozen=True)
class PreSharedKey:
    """A secret that both sides know. Never in its repr."""

    secret: bytes = field(repr=False)

    def __post_init__(self) -> None:
        _check(len(self.secret) >= 1, "pre-shared key", "at least 1 byte", counted(len(self.secret), "byte"))


@dataclass(frozen=True)
class AccessToken:
    """A secret that both sides know and that somebody replaces from time to time: asked for anew in each
    handshake.

    Parameters
    ----------
    fetch : callable
        Gives the :class:`PreSharedKey` that it is now. Raises InputError where there is none.
    """

    fetch: Callable[[], PreSharedKey] = field(repr=False)

    @property
    def secret(self) -> bytes:
        """Raises InputError."""
        return self.fetch().secret


Shared = PreSharedKey | AccessToken
"""What both sides show by a MAC with it (RFC 7296 2.15)."""


@dataclass(frozen=True)
class KeyPair:
    """A private key, and the certificates that speak for it, end entity first."""

    key: PrivateKeyTypes = field(repr=False)
    chain: tuple[x509.Certificate, ...] = field(repr=False)

    def __post_init__(self) -> None:
        _check(bool(self.chain), "chain", "at least 1 certificate", self.chain)
        _check(
            self.key.public_key() == self.chain[0].public_key(),
            "key",
            "that of the first certificate",
            "another",
        )


@lru_cache(1024)
def _groups(traffic: tuple[Selectors, ...]) -> list[tuple[Selectors, ...]]:
    return selectors.products(traffic)


@dataclass(frozen=True, kw_only=True)
class ChildConfig:
    """What one child SA may carry, and how it is protected.

    Parameters
    ----------
    name : str
    traffic : tuple of Selectors
        Source: this side. Empty: all between the two addresses of the IKE SA. What is not all pairs of some
        sources and some destinations is made as several child SAs.
    protocol : ProtocolId
        ESP or AH.
    mode : Mode
    proposals : tuple of Proposal
        In order of preference; empty: the module's default. One with a KE transform gives perfect forward
        secrecy.
    hard, soft : Lifetime
        When the SA ends and when it is replaced.
    jitter : float
        Soft limits are shortened by a random part, up to this fraction, so that two sides do not meet.
    reqid : int
        What ties policies to its SAs; 0: a number that nobody else has.
    replay_window, mtu : int
        As in :class:`~spigate.firmware_py.ipsec.sa.Sa`.
    initiate : bool
        Made as soon as the IKE SA stands.
    """

    name: str
    traffic: tuple[Selectors, ...] = ()
    protocol: ProtocolId = ProtocolId.ESP
    mode: Mode = Mode.TUNNEL
    proposals: tuple[Proposal, ...] = ()
    hard: Lifetime = Lifetime(seconds=3600)
    soft: Lifetime = Lifetime(seconds=3240)
    jitter: float = 0.1
    reqid: int = 0
    replay_window: int = 64
    mtu: int = 0
    initiate: bool = True

    def __post_init__(self) -> None:
        name = f"child {self.name!r}"
        _check(bool(self.name), "child name", "a word", self.name)
        _check(
            self.protocol in (ProtocolId.ESP, ProtocolId.AH), f"{name} protocol", "ESP or AH", self.protocol
        )
        _check(0 <= self.jitter < 1, f"{name} jitter", "0 to below 1", self.jitter)
        for limit in ("bytes", "packets", "seconds"):
            soft, hard = getattr(self.soft, limit), getattr(self.hard, limit)
            _check(
                soft is None or hard is None or soft <= hard,
                f"{name} soft {limit}",
                f"at most {hard!r}",
                soft,
            )
        for proposal in self.proposals:
            _check(
                proposal.protocol == self.protocol, f"{name} proposals", f"for {self.protocol.name}", proposal
            )
        for pair in self.traffic:
            seen = (
                selectors.sees_ports(pair.protocol)
                or pair.source_ports == pair.destination_ports == ANY_PORTS
            )
            _check(
                seen, f"{name} traffic", "of protocol 6 (TCP) or 17 (UDP) where it has ports", pair.protocol
            )
        groups = _groups(self.traffic)
        _check(
            len(groups) == 1 or not self.reqid,
            f"{name} reqid",
            "0, because traffic takes several child SAs",
            self.reqid,
        )
        for group in groups:
            _check(
                len(group) <= MAX_PAIRS,
                f"{name} traffic",
                f"at most {MAX_PAIRS} pairs for one child SA",
                len(group),
            )
        if not self.proposals:
            default = proposals.ESP_DEFAULT if self.protocol == ProtocolId.ESP else proposals.AH_DEFAULT
            object.__setattr__(self, "proposals", default)

    @property
    def parts(self) -> tuple["ChildConfig", ...]:
        """What one child SA each can have: it is all pairs of some sources and some destinations (RFC 7296
        2.9).
        """
        groups = _groups(self.traffic)
        return (self,) if len(groups) == 1 else tuple(replace(self, traffic=group) for group in groups)

    @property
    def label(self) -> str:
        return f"{self.protocol.name} {self.mode.name.lower()} child {self.name}"


@dataclass(frozen=True, kw_only=True)
class Peer:
    """One entry: peers that are treated alike.

    Parameters
    ----------
    name : str
    local_identity : Identity
    local_credential : Shared or KeyPair
        How this side shows who it is.
    remote_identity : str
        Pattern of :meth:`Identity.matches`.
    remote_credential : Shared or Authorities
        How the peer must show it.
    address : Address or None
        Where to begin; None: only the peer begins.
    local_address : Address or None
        From where to begin. Needed with ``address``.
    networks : tuple of Network
        Addresses from which the peer may come; its ``address``, where that is given and these are not.
    proposals : tuple of Proposal
        For the IKE SA; empty: the module's default.
    children : tuple of ChildConfig
    rekey_seconds, lifetime_seconds : float or None
        When the IKE SA is replaced (less jitter), and when it ends.
    jitter : float
    dpd_seconds : float or None
        After so long a silence the peer is asked whether it lives; None: never.
    keepalive_seconds : float or None
        Behind a NAT, so often a datagram keeps its mapping (RFC 3948 4); None: never.
    retransmission : Retransmission
    fragment_bytes : int
        Largest IKE datagram; longer messages go in fragments, where the peer can (RFC 7383).
    force_encapsulation : bool
        ESP in UDP even without a NAT.
    zero_checksum : bool
        ESP in UDP over IPv6 is taken without a UDP checksum too (RFC 6935, 6936).
    initiate : bool
        Started with the endpoint, and again whenever it ends otherwise than by the operator.
    retry_seconds : float
        So long after a failure it is tried again.
    """

    name: str
    local_identity: Identity
    local_credential: Shared | KeyPair
    remote_identity: str
    remote_credential: Shared | Authorities
    address: Address | None = None
    local_address: Address | None = None
    networks: tuple[Network, ...] = ()
    proposals: tuple[Proposal, ...] = ()
    children: tuple[ChildConfig, ...] = ()
    rekey_seconds: float | None = 14400
    lifetime_seconds: float | None = 15840
    jitter: float = 0.1
    dpd_seconds: float | None = 30
    keepalive_seconds: float | None = 20
    retransmission: Retransmission = Retransmission()
    fragment_bytes: int = 1280
    force_encapsulation: bool = False
    zero_checksum: bool = False
    initiate: bool = False
    retry_seconds: float = 10

    def __post_init__(self) -> None:
        name = f"peer {self.name!r}"
        _check(bool(self.name), "peer name", "a word", self.name)
        _check(
            (self.address is None) == (self.local_address is None),
            f"{name} local_address",
            "given exactly where address is",
            self.local_address,
        )
        for key, each in (("address", self.address), ("local_address", self.local_address)):
            _check(each is None or is_host(each), f"{name} {key}", "an address of a host", str(each))
        if self.address is not None and self.local_address is not None:
            _check(
                self.address.version == self.local_address.version and self.address != self.local_address,
                f"{name} local_address",
                f"an IPv{self.address.version} address, as address is one, and another one",
                str(self.local_address),
            )
        _check(
            not self.initiate or self.address is not None,
            f"{name} initiate",
            "false where there is no address",
            self.initiate,
        )
        _check(0 <= self.jitter < 1, f"{name} jitter", "0 to below 1", self.jitter)
        _check(
            576 <= self.fragment_bytes <= 0xFFFF,
            f"{name} fragment_bytes",
            "576 to 65535",
            self.fragment_bytes,
        )
        for limit in ("rekey_seconds", "lifetime_seconds", "dpd_seconds", "keepalive_seconds"):
            value = getattr(self, limit)
            _check(value is None or value > 0, f"{name} {limit}", "more than 0, or None", value)
        for child in self.children:
            _check(
                child.protocol == ProtocolId.ESP or not self.force_encapsulation,
                f"{name} force_encapsulation",
                "false, because AH does not go in UDP",
                self.force_encapsulation,
            )
            between = (
                child.mode == Mode.TUNNEL
                or self.address is None
                or self.local_address is None
                or (
                    {(each.source, each.destination) for each in child.traffic}
                    <= {(ip_network(self.local_address), ip_network(self.address))}
                )
            )
            _check(
                between,
                f"{name} child {child.name!r} traffic",
                "between address and local_address in transport mode",
                child.traffic,
            )
        names = [child.name for child in self.children]
        _check(len(set(names)) == len(names), f"{name} children", "of different names", names)
        for proposal in self.proposals:
            _check(proposal.protocol == ProtocolId.IKE, f"{name} proposals", "for IKE", proposal)
            _check(bool(proposal.of(TransformType.KE)), f"{name} proposals", "with a key exchange", proposal)
        if not self.proposals:
            object.__setattr__(self, "proposals", proposals.IKE_DEFAULT)
        if not self.networks:
            at = ANYWHERE if self.address is None else (ip_network(self.address),)
            object.__setattr__(self, "networks", at)

    def may_come_from(self, address: Address) -> bool:
        return any(address in network for network in self.networks)

    def ends(self) -> tuple[Address, Address]:
        """From where this side begins, and to where. Raises InputError where it cannot."""
        if self.address is None or self.local_address is None:
            raise InputError(f"peer {self.name!r} has no address, so that only the peer can begin")
        return self.local_address, self.address

    def child(self, name: str) -> ChildConfig:
        """Its child of that name. Raises InputError."""
        for child in self.children:
            if child.name == name:
                return child
        raise InputError(
            f"peer {self.name!r} has no child {name!r}; it has "
            f"{', '.join(each.name for each in self.children) or 'none'}"
        )

    @property
    def parts(self) -> tuple[ChildConfig, ...]:
        """What one child SA each is made for, in order."""
        return tuple(part for child in self.children for part in child.parts)

    def parts_of(self, name: str, packet: Selectors | None = None) -> tuple[ChildConfig, ...]:
        """The parts of its child of that name; the first that takes ``packet``, where there is such a one.
        Raises InputError.
        """
        parts = self.child(name).parts
        fitting = [
            part
            for part in parts
            if packet is not None and any(pair.overlaps(packet) for pair in part.traffic)
        ]
        return tuple(fitting[:1]) or parts

    def accepts(self, suite: Suite) -> bool:
        """Whether its proposals allow an IKE SA's suite."""
        try:
            proposals.choose((suite.proposal,), self.proposals)
        except NoProposalChosen:
            return False
        return True


class Pad:
    """Entries in the order in which they are tried.

    Raises
    ------
    InputError
        Two entries have one name, or one child reqid.
    """

    def __init__(self, peers: Iterable[Peer] = ()):
        self._peers: dict[str, Peer] = {}
        reqids: set[int] = set()
        for peer in peers:
            _check(peer.name not in self._peers, "peer name", "used once", peer.name)
            self._peers[peer.name] = peer
            for child in peer.children:
                _check(
                    not child.reqid or child.reqid not in reqids,
                    f"child {child.name!r} reqid",
                    "used once",
                    child.reqid,
                )
                reqids.add(child.reqid)

    def __iter__(self) -> Iterator[Peer]:
        return iter(self._peers.values())

    def __getitem__(self, name: str) -> Peer:
        """Raises InputError."""
        if name not in self._peers:
            raise InputError(f"There is no peer {name!r}; there are {', '.join(self._peers) or 'none'}")
        return self._peers[name]

    def candidates(self, address: Address) -> tuple[Peer, ...]:
        """Entries of which somebody at ``address`` may be one. None: nobody there may take part."""
        return tuple(peer for peer in self if peer.may_come_from(address))

    def authorize(self, address: Address, suite: Suite, remote: Identity, local: Identity | None) -> Peer:
        """The entry of who calls itself ``remote`` and, where it said so, wants to speak with ``local``.

        Raises
        ------
        AuthenticationFailed
            No entry allows this identity from this address with the IKE SA's ``suite``.
        """
        for peer in self.candidates(address):
            if (
                remote.matches(peer.remote_identity)
                and local in (None, peer.local_identity)
                and peer.accepts(suite)
            ):
                return peer
        raise AuthenticationFailed(
            f"no peer {remote}{f' for {local}' if local else ''} may come from {address}"
        )


def ip_protocol(protocol: ProtocolId) -> int:
    """50 or 51, of what IKE calls 3 or 2."""
    return ESP if protocol == ProtocolId.ESP else 51
