# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The gateway's tables as the control element sees them: their entries, and who keeps them.

:class:`Tables` has two keepers: :class:`~spigate.firmware_py.tables.driver.Driver` writes the registers of
the
gateware, :class:`~spigate.firmware_py.tables.model.SoftGateway` is a gateway itself. The control element does
not know which it has.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from spigate.firmware_py.errors import InputError
from spigate.firmware_py.ipsec.packet import Ethernet
from spigate.firmware_py.ipsec.sa import Address, Auth, Cipher, Network, Sa, SaState, Selectors
from spigate.firmware_py.tables.punt import Place
from spigate.firmware_py.toml import integer, list_of
from spigate.hdl.contract import enums
from spigate.hdl.contract.constants import ALIGN, MAX_DFES, MAX_FRAME, REPLAY_WINDOW
from spigate.hdl.contract.enums import Action, Balance, Direction, Mode, Port, PuntClass, Reason
from spigate.hdl.contract.protocols import AH, ESP, IKE_PORT, UDP, VLAN_IDENTIFIER

UNLIMITED = (0,) * len(PuntClass)
"""As ``rates`` of :class:`CfeSettings`: for hosts that a simulated gateway waits for."""
RATES_ARE = f"a list of {len(PuntClass)} numbers, 0 to 1000000"


def punt_rates(value: object) -> tuple[int, ...]:
    """The ``rates`` of :class:`CfeSettings` in a configuration. ValueError where it is something else."""
    rates = list_of(integer(0, 1_000_000))(value)
    if len(rates) != len(PuntClass):
        raise ValueError
    return tuple(rates)


BALANCES = {balance.name.lower().replace("_", "-"): balance for balance in Balance}
"""The words for them in configurations and on the command line."""
MISS_SECONDS = 0.01

CIPHERS = {
    Cipher.NULL: enums.Cipher.NULL,
    Cipher.AES_CBC: enums.Cipher.AES_CBC,
    Cipher.AES_GCM: enums.Cipher.AES_GCM,
}
AES_KEYS = {16: enums.KeySize.AES128, 24: enums.KeySize.AES192, 32: enums.KeySize.AES256}
AUTHS = {
    Auth.HMAC_SHA1_96: enums.Auth.HMAC_SHA1_96,
    Auth.HMAC_SHA256_128: enums.Auth.HMAC_SHA256_128,
}
"""The algorithms, and bytes of an AES key, that the tables have a code for, and that code."""

ANY_VLAN = "any"
"""A port that takes frames of all VLANs, and untagged ones."""


@dataclass(frozen=True)
class Capabilities:
    """What a gateway has and can do. ``frame_bytes``: the longest frame that it takes; ``clock_khz``:
    thousand clocks a second."""

    dfes: int
    lanes: int
    beat_bytes: int
    sa_entries: int
    sources: int
    cam_entries: int
    cam_ways: int
    cam_rows: int
    rules: int
    routes: int
    ciphers: frozenset[Cipher]
    aes_keys: frozenset[int]
    auths: frozenset[Auth]
    modes: frozenset[Mode]
    icvs: frozenset[int] = frozenset({16})
    frame_bytes: int = MAX_FRAME - ALIGN
    clock_khz: int = 100_000
    replay_window: int = REPLAY_WINDOW
    esn: bool = False
    ipv6: bool = False
    ah: bool = False
    natt: bool = False

    def lacks(self, sa: Sa, permitted: Sequence[Selectors] = ()) -> str | None:
        """What ``sa`` needs and the gateway has not, by name; None where it can do it all. ``permitted``:
        what it may carry."""
        needs = [
            (sa.protocol != AH or self.ah, "AH"),
            (sa.source.version == 4 or self.ipv6, "IPv6"),
            (all(selectors.source.version == 4 for selectors in permitted) or self.ipv6, "IPv6"),
            (len(permitted) <= 1, "more than one selector for an SA"),
            (sa.encapsulation is None or self.natt, "ESP in UDP"),
            (sa.mode in self.modes, f"{sa.mode.name.lower()} mode"),
            (not sa.esn or self.esn, "extended sequence numbers"),
            # A table's row has no room for it, and packets that are counted are no numbers that were used.
            (sa.last_sequence is None, "a last sequence number"),
            (sa.cipher in self.ciphers, sa.cipher.value),
            (not sa.key or len(sa.key) in self.aes_keys, f"keys of {8 * len(sa.key)} bits"),
            (sa.auth in self.auths or sa.auth == Auth.NONE, sa.auth.value),
            (not sa.icv_bytes or sa.icv_bytes in self.icvs, f"ICVs of {sa.icv_bytes} bytes"),
            (not sa.tfc or sa.direction == Direction.INBOUND, "padding for traffic flow confidentiality"),
            (sa.replay_window <= self.replay_window, f"replay windows of {sa.replay_window}"),
        ]
        return next((name for has, name in needs if not has), None)


GATEWARE = Capabilities(
    dfes=2,
    lanes=1,
    beat_bytes=16,
    sa_entries=256,
    sources=16,
    cam_entries=1024,
    cam_ways=3,
    cam_rows=512,
    rules=32,
    routes=64,
    ciphers=frozenset(CIPHERS),
    aes_keys=frozenset(AES_KEYS),
    auths=frozenset(AUTHS),
    modes=frozenset(Mode),
)
"""The gateware as it is without parameters: what the reference model imitates."""
SOFTWARE = replace(
    GATEWARE,
    ciphers=frozenset(),
    auths=frozenset(),
    aes_keys=frozenset(),
    frame_bytes=1 << 16,
    sa_entries=1 << 14,
)
"""A gateway without decryptors: the control element does all SAs itself."""


@dataclass(frozen=True)
class CamKey:
    """What an encrypted packet is found by; and one of the gateway's own addresses, with :meth:`own`."""

    destination: Address
    spi: int
    protocol: int = ESP

    @classmethod
    def own(cls, address: Address) -> "CamKey":
        """Says that ``address`` is one of the gateway's own, where IKE may come."""
        return cls(address, IKE_PORT, UDP)

    @property
    def number(self) -> int:
        """The destination as the CAM compares it: of an own address of IPv6 the last 32 bits alone."""
        return int(self.destination) & (0xFFFF_FFFF if self.protocol == UDP else -1)


@dataclass(frozen=True)
class CamEntry:
    """Where the packets of ``key`` go: SA ``sa`` of DFE ``dfe``, if that is still of ``generation``, then
    by route ``route``."""

    key: CamKey
    dfe: int
    sa: int
    route: int
    generation: int = 0

    @property
    def place(self) -> Place:
        """Where its SA is."""
        return Place(self.dfe, self.sa, self.generation)


@dataclass(frozen=True)
class Rule:
    """What becomes of clear packets with these ``selectors`` that come in at one of the ports ``ingress``.
    Where two rules have packets in common they do the same to them, so it does not matter which is tried
    first. ``generation`` is that of the SA. ``clear`` says that policy bypasses towards the network port
    all that the rule matches: nothing else that a rule bypasses leaves there.
    """

    selectors: Selectors
    ingress: frozenset[Port]
    action: Action
    dfe: int = 0
    sa: int = 0
    route: int = 0
    generation: int = 0
    clear: bool = False

    @property
    def place(self) -> Place:
        """Where its SA is."""
        return Place(self.dfe, self.sa, self.generation)

    @property
    def outcome(self) -> tuple[Action, Place, int, bool]:
        """What becomes of the packets that it matches."""
        return self.action, self.place, self.route, self.clear

    def to(self, place: Place) -> "Rule":
        """The same for an SA that is elsewhere by now."""
        return replace(self, dfe=place.dfe, sa=place.sa, generation=place.generation)

    def punting(self) -> "Rule":
        """One that lets the same packets come up."""
        return Rule(self.selectors, self.ingress, Action.PUNT)


@dataclass(frozen=True)
class Route:
    """How a packet leaves.

    Members
    -------
    egress : Port
    destination_mac, source_mac : bytes or None
        A new Ethernet header; None: the frame keeps its own.
    vlan : int or None
        802.1Q tag control information of the new header.
    decrement_ttl : bool
        Count time to live down, as a router does.
    """

    egress: Port
    destination_mac: bytes | None = None
    source_mac: bytes | None = None
    vlan: int | None = None
    decrement_ttl: bool = False

    def __post_init__(self) -> None:
        for name in ("destination_mac", "source_mac"):
            value = getattr(self, name)
            if value is not None and len(value) != 6:
                raise InputError(f"{name} must be 6 bytes, not {len(value)}")
        if (self.destination_mac is None) != (self.source_mac is None):
            raise InputError("destination_mac and source_mac must be given both, or neither")
        if self.vlan is not None and self.destination_mac is None:
            raise InputError("vlan must be None where the frame keeps its Ethernet header")

    def ethernet(self, came: Ethernet, kind: int) -> Ethernet:
        """The Ethernet header of a packet of EtherType ``kind`` that leaves and came with ``came``."""
        if self.destination_mac is None or self.source_mac is None:
            return replace(came, kind=kind)
        return Ethernet(self.destination_mac, self.source_mac, kind, self.vlan)


@dataclass(frozen=True)
class Source:
    """Sources that may speak in the clear, at the ports ``ingress``. Those of IPv6 are the control element's
    alone: the gateway's tables have no place for them."""

    network: Network
    ingress: frozenset[Port]

    def __post_init__(self) -> None:
        if not isinstance(self.network, Network):
            raise InputError(f"network must be a network, not {self.network!r}")


@dataclass(frozen=True)
class Attention:
    """SA ``index`` of DFE ``dfe`` has reached a soft byte or packet lifetime, or has few sequence numbers
    left; ``over``: it has stopped at a hard lifetime, or used its last number."""

    dfe: int
    index: int
    over: bool


@dataclass(frozen=True)
class Event:
    """Something that the gateway tells: a packet dropped for an auditable reason, or a soft lifetime over.

    ``reason`` is a :class:`Reason`, or a number where newer gateware has one more.
    """

    reason: int
    dropped: bool
    ingress: Port
    dfe: int
    sa: int
    spi: int
    sequence: int
    source: Address
    destination: Address
    time: int


@dataclass(frozen=True)
class CfeSettings:
    """Settings of the classifier; see ``cfe`` in ``hdl/contract/gateway.rdl``."""

    balance: Balance = Balance.ROUND_ROBIN
    enable: int = (1 << MAX_DFES) - 1
    weights: tuple[int, ...] = (1,) * MAX_DFES
    patience: int = 0xFFFF
    miss_drop: bool = False
    rule_miss: Action = Action.PUNT
    depth_limit: int = 3
    miss_interval: int | None = None
    """In clocks. None: as many as :data:`MISS_SECONDS` have."""
    rates: tuple[float, ...] = (10_000, 2_000, 5_000, 2_000, 2_000)
    """Frames a second that come up at the most, by :data:`PuntClass`. 0: no limit."""
    bursts: tuple[int, ...] = (63, 32, 63, 32, 32)
    """How many of each class may come up at once."""
    own: frozenset[Address] = frozenset()
    """The gateway's own addresses: where IKE comes to it. To others it is traffic like any other."""
    network_mac: bytes | None = None
    server_mac: bytes | None = None
    """Ethernet addresses of ports that take only their own frames, as a router does. None: the port takes
    all.
    """
    network_vlan: int | str | None = None
    server_vlan: int | str | None = None
    """The VLANs whose frames the ports take, 1 to 4094. None: only untagged frames. :data:`ANY_VLAN`: all."""

    def __post_init__(self) -> None:
        for name in ("network_vlan", "server_vlan"):
            vlan = getattr(self, name)
            if vlan not in (None, ANY_VLAN) and not (isinstance(vlan, int) and 1 <= vlan < VLAN_IDENTIFIER):
                raise InputError(
                    f"{name} must be 1 to {VLAN_IDENTIFIER - 1}, {ANY_VLAN!r} or None, not {vlan!r}"
                )

    @property
    def shares(self) -> tuple[int, ...] | None:
        """For each DFE its share of the SAs, where they take turns. None: an SA goes where the balancer
        says, by load or by flow.
        """
        return {
            Balance.ROUND_ROBIN: (1,) * MAX_DFES,
            Balance.WEIGHTED: tuple(
                max(weight, 1) for weight in (*self.weights, *(1,) * MAX_DFES)[:MAX_DFES]
            ),
        }.get(self.balance)


@dataclass(frozen=True)
class Counters:
    """All counters of the gateway, by the names of ``gateway.rdl``; ``drops`` by reason. What is 0 may be
    left out."""

    cfe: Counter[str] = field(default_factory=Counter)
    forward: Counter[str] = field(default_factory=Counter)
    dfes: list[Counter[str]] = field(default_factory=list)
    drops: Counter[Reason] = field(default_factory=Counter)


class Tables(Protocol):
    """What keeps the gateway's tables. An entry is seen by packets whole, or not at all.

    Indices of SAs, routes and sources are the caller's choice; CAM entries and rules find their place
    themselves.
    """

    capabilities: Capabilities

    async def configure(self, settings: CfeSettings) -> None:
        """Sets up the classifier."""

    async def write_sa(
        self, dfe: int, index: int, sa: Sa, selectors: Selectors | None, *, generation: int = 0
    ) -> None:
        """Makes ``sa`` the SA ``index`` of DFE ``dfe``; what it decrypts must match ``selectors``. Only CAM
        entries and rules of the same ``generation`` (0 to 255) lead to it.

        Raises
        ------
        UnsupportedError
            The gateway lacks something that the SA needs; the message names it.
        """

    async def erase_sa(self, dfe: int, index: int) -> None:
        """Forgets an SA: all of it, keys first of all, becomes zero, and so does in time (docs/security.md)
        what it and its packets have left elsewhere. Only an SA that is erased before another one takes its
        place is forgotten so."""

    async def read_state(self, dfe: int, index: int) -> SaState:
        """How far an SA is."""

    async def attention(self) -> list[Attention]:
        """The SAs that have reached a limit. It is their state, told as long as they are there, and no
        event among others.
        """

    async def stop_sa(self, dfe: int, index: int) -> bool:
        """Lets an SA take no more packets, which are punted as if it were not there, and waits until those
        that it has have left: then its state stands still. False: that is not certain, because the DFE
        takes nothing any more."""

    async def add_cam(self, entry: CamEntry) -> None:
        """Adds an entry, or replaces the one with the same key. No entry is missed by a lookup meanwhile.

        Raises
        ------
        TableFull
            No place was found; all is as it was.
        """

    async def remove_cam(self, key: CamKey) -> None:
        """Removes an entry; nothing happens where there is none."""

    async def add_rule(self, rule: Rule) -> None:
        """Adds a rule.

        Raises
        ------
        TableFull
            There is no room.
        """

    async def replace_rule(self, old: Rule, new: Rule) -> None:
        """Puts ``new`` in the place of ``old``; packets see the one or the other.

        Raises
        ------
        InputError
            ``old`` is not there.
        """

    async def remove_rule(self, rule: Rule) -> None:
        """Removes a rule; nothing happens where it is not there."""

    async def write_route(self, index: int, route: Route | None) -> None:
        """Writes a route; None erases it."""

    async def write_source(self, dfe: int, index: int, source: Source | None) -> None:
        """Writes an entry of a DFE's list of clear sources; None erases it."""

    async def counters(self) -> Counters:
        """All counters."""

    async def events(self) -> list[Event]:
        """The events since the last call."""
