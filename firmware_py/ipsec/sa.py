# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The Security Association: the one model of it in the whole project.

Whatever negotiates, reads, programs or uses an SA speaks in :class:`Sa`: IKE, TOML and ``ip xfrm`` files make
them, the driver packs them into the tables of the gateware, the software path does ESP with them.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

from spigate.firmware_py.errors import InputError
from spigate.firmware_py.words import counted
from spigate.hdl.contract.enums import Df, Direction, Mode

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Identity = tuple[Address, int, int] | tuple[Address, int, int, int, int]
"""The name of an SA: :attr:`Sa.identity`."""

ESP, AH = 50, 51
ANY_PORTS = (0, 0xFFFF)


class Cipher(StrEnum):
    """What encrypts."""

    NULL = "null"
    AES_CBC = "aes-cbc"
    AES_CTR = "aes-ctr"
    AES_GCM = "aes-gcm"
    AES_GMAC = "aes-gmac"
    AES_CCM = "aes-ccm"
    CHACHA20_POLY1305 = "chacha20-poly1305"


class Auth(StrEnum):
    """What authenticates, where the cipher does not."""

    NONE = "none"
    HMAC_SHA1_96 = "hmac-sha1-96"
    HMAC_SHA256_128 = "hmac-sha256-128"
    HMAC_SHA384_192 = "hmac-sha384-192"
    HMAC_SHA512_256 = "hmac-sha512-256"


@dataclass(frozen=True)
class CipherForm:
    """Sizes of a cipher in ESP, in bytes. ``icvs`` is empty where the cipher does not authenticate."""

    keys: tuple[int, ...]
    salt: int
    iv: int
    block: int
    icvs: tuple[int, ...]
    source: str


@dataclass(frozen=True)
class AuthForm:
    """Sizes of an HMAC in ESP and AH, in bytes, and the hash that it is made of."""

    key: int
    icv: int
    hash: str
    source: str


AES_KEYS = (16, 24, 32)
CIPHERS = {
    Cipher.NULL: CipherForm((0,), 0, 0, 4, (), "RFC 2410"),
    Cipher.AES_CBC: CipherForm(AES_KEYS, 0, 16, 16, (), "RFC 3602"),
    Cipher.AES_CTR: CipherForm(AES_KEYS, 4, 8, 4, (), "RFC 3686"),
    Cipher.AES_GCM: CipherForm(AES_KEYS, 4, 8, 4, (8, 12, 16), "RFC 4106"),
    Cipher.AES_GMAC: CipherForm(AES_KEYS, 4, 8, 4, (16,), "RFC 4543"),
    Cipher.AES_CCM: CipherForm(AES_KEYS, 3, 8, 4, (8, 12, 16), "RFC 4309"),
    Cipher.CHACHA20_POLY1305: CipherForm((32,), 4, 8, 4, (16,), "RFC 7634"),
}
AUTHS = {
    Auth.HMAC_SHA1_96: AuthForm(20, 12, "sha1", "RFC 2404"),
    Auth.HMAC_SHA256_128: AuthForm(32, 16, "sha256", "RFC 4868"),
    Auth.HMAC_SHA384_192: AuthForm(48, 24, "sha384", "RFC 4868"),
    Auth.HMAC_SHA512_256: AuthForm(64, 32, "sha512", "RFC 4868"),
}


def _check(holds: bool, name: str, expected: str, value: object) -> None:
    if not holds:
        raise InputError(f"{name} must be {expected}, not {value!r}")


@dataclass(frozen=True)
class Selectors:
    """Traffic by its addresses, protocol and ports (RFC 4301 4.4.1.1).

    Members
    -------
    source, destination : Network
    protocol : int or None
        None: every one.
    source_ports, destination_ports : (int, int)
        First and last. :data:`ANY_PORTS` also takes protocols without ports; for ICMP Linux puts type and
        code here.
    """

    source: Network
    destination: Network
    protocol: int | None = None
    source_ports: tuple[int, int] = ANY_PORTS
    destination_ports: tuple[int, int] = ANY_PORTS

    def __post_init__(self) -> None:
        _check(isinstance(self.source, Network), "selectors.source", "a network", self.source)
        _check(isinstance(self.destination, Network), "selectors.destination", "a network", self.destination)
        _check(
            self.source.version == self.destination.version,
            "selectors.destination",
            f"an IPv{self.source.version} network, like selectors.source",
            str(self.destination),
        )
        _check(
            self.protocol is None or 0 <= self.protocol <= 255,
            "selectors.protocol",
            "0 to 255",
            self.protocol,
        )
        for name in ("source_ports", "destination_ports"):
            low, high = getattr(self, name)
            _check(
                0 <= low <= high <= 0xFFFF,
                f"selectors.{name}",
                "two numbers, 0 to 65535, in order",
                (low, high),
            )

    def matches(
        self, source: Address, destination: Address, protocol: int, ports: tuple[int, int] | None
    ) -> bool:
        """Whether a packet is meant. ``ports`` is None where its protocol has none."""
        if (
            source not in self.source
            or destination not in self.destination
            or self.protocol not in (None, protocol)
        ):
            return False
        if ports is None:
            return self.source_ports == self.destination_ports == ANY_PORTS
        return (
            self.source_ports[0] <= ports[0] <= self.source_ports[1]
            and self.destination_ports[0] <= ports[1] <= self.destination_ports[1]
        )

    def overlaps(self, other: "Selectors") -> bool:
        """Whether some packet matches both."""
        return (
            self.source.version == other.source.version
            and self.source.overlaps(other.source)
            and self.destination.overlaps(other.destination)
            and (None in (self.protocol, other.protocol) or self.protocol == other.protocol)
            and all(
                a[0] <= b[1] and b[0] <= a[1]
                for a, b in (
                    (self.source_ports, other.source_ports),
                    (self.destination_ports, other.destination_ports),
                )
            )
        )

    def intersection(self, other: "Selectors") -> "Selectors | None":
        """What matches both; None: nothing does."""
        if not self.overlaps(other):
            return None
        return Selectors(
            max(self.source, other.source, key=lambda network: network.prefixlen),
            max(self.destination, other.destination, key=lambda network: network.prefixlen),
            self.protocol if other.protocol is None else other.protocol,
            _common(self.source_ports, other.source_ports),
            _common(self.destination_ports, other.destination_ports),
        )

    def covers(self, other: "Selectors") -> bool:
        """Whether every packet that matches ``other`` matches this too."""
        return (
            self.source.version == other.source.version
            and within(other.source, self.source)
            and within(other.destination, self.destination)
            and self.protocol in (None, other.protocol)
            and all(
                a[0] <= b[0] and b[1] <= a[1]
                for a, b in (
                    (self.source_ports, other.source_ports),
                    (self.destination_ports, other.destination_ports),
                )
            )
        )


def within(network: Network, other: Network) -> bool:
    """Whether all of ``network`` is in ``other``."""
    return network.prefixlen >= other.prefixlen and network.network_address in other


def _common(ports: tuple[int, int], others: tuple[int, int]) -> tuple[int, int]:
    return max(ports[0], others[0]), min(ports[1], others[1])


ANY_IPV4 = Selectors(ip_network("0.0.0.0/0"), ip_network("0.0.0.0/0"))
ANY_IPV6 = Selectors(ip_network("::/0"), ip_network("::/0"))


@dataclass(frozen=True)
class Lifetime:
    """Limits of an SA; None: no limit. Seconds count from its making.

    Bytes are those of what ESP carries: the whole packet inside a tunnel, the payload in transport mode (RFC
    4301 4.4.2.1).
    """

    bytes: int | None = None
    packets: int | None = None
    seconds: int | None = None

    def __post_init__(self) -> None:
        for name in ("bytes", "packets", "seconds"):
            value = getattr(self, name)
            _check(value is None or 1 <= value < 1 << 64, f"lifetime {name}", "1 to 2^64 - 1, or None", value)


@dataclass(frozen=True)
class Encapsulation:
    """ESP in UDP (RFC 3948): the ports of the UDP header.

    Members
    -------
    zero_checksum : bool
        Inbound over IPv6: datagrams without a UDP checksum are taken too (RFC 6935, 6936). Those that are
        sent have one.
    """

    source_port: int
    destination_port: int
    zero_checksum: bool = False


@dataclass(frozen=True, kw_only=True)
class Sa:
    """One Security Association, one direction (RFC 4301 4.4.2).

    Parameters
    ----------
    direction : Direction
    spi : int
        256 to 2^32 - 1.
    source, destination : Address
        Of the IP header outside. ``destination``, ``protocol`` and ``spi`` are its name: :attr:`identity`.
    mode : Mode
    protocol : int
        :data:`ESP` or :data:`AH`.
    cipher, key, salt
        ``salt``: what RFC 4106, 3686, 4309, 4543 and 7634 call salt or nonce. Never in the SA's repr.
    icv_bytes : int
        Length of the ICV of a cipher that authenticates; otherwise 0 and :attr:`icv` follows from ``auth``.
    auth, auth_key
    esn : bool
        64-bit extended sequence numbers.
    replay_window : int
        Sequence numbers that the anti-replay window covers; 0: no anti-replay service.
    sequence, window : int
        State to start from. Outbound: the last number used. Inbound: the highest received, and its window:
        bit i is set when sequence - i was received.
    last_sequence : int or None
        Outbound: the last number that may be used. None: the last that there is, :attr:`last_number`.
    selectors : Selectors or None
        Inbound: what the SA may carry, of what the policies that name it say, if there are any. None: all
        of that.
    soft, hard : Lifetime
    mtu : int
        Largest IP packet to encapsulate, in bytes; 0: no limit.
    df, copy_tos, outer_tos, outer_ttl
        How the outer header of a tunnel is made: RFC 4301 5.1.2.
    reqid : int
        What ties templates of policies to it, as in Linux; 0: nothing.
    encapsulation : Encapsulation or None
    tfc : int
        Outbound ESP tunnels: packets are padded to so many bytes, or as many as fit (RFC 4303 2.7). 0: they
        are not.
    ah_align : int
        AH over IPv4 is padded to whole numbers of so many bytes: 4 (RFC 4302 2.6), or 8, which Linux demands
        of its SAs without the flag ``align4``. Over IPv6 it is 8.

    Raises
    ------
    InputError
        A field is not what it must be; the message names it.
    """

    direction: Direction
    spi: int
    source: Address
    destination: Address
    mode: Mode
    protocol: int = ESP
    cipher: Cipher = Cipher.NULL
    key: bytes = field(default=b"", repr=False)
    salt: bytes = field(default=b"", repr=False)
    icv_bytes: int = 0
    auth: Auth = Auth.NONE
    auth_key: bytes = field(default=b"", repr=False)
    esn: bool = False
    replay_window: int = 64
    sequence: int = 0
    window: int = 0
    last_sequence: int | None = None
    selectors: Selectors | None = None
    soft: Lifetime = Lifetime()
    hard: Lifetime = Lifetime()
    mtu: int = 0
    df: Df = Df.COPY
    copy_tos: bool = True
    outer_tos: int = 0
    outer_ttl: int = 64
    reqid: int = 0
    encapsulation: Encapsulation | None = None
    tfc: int = 0
    ah_align: int = 4

    def __post_init__(self) -> None:
        _check(256 <= self.spi <= 0xFFFF_FFFF, "spi", "256 to 2^32 - 1", self.spi)
        _check(self.protocol in (ESP, AH), "protocol", "50 (ESP) or 51 (AH)", self.protocol)
        _check(isinstance(self.source, Address), "source", "an address", self.source)
        _check(
            isinstance(self.destination, Address) and self.destination.version == self.source.version,
            "destination",
            f"an IPv{self.source.version} address, like source",
            self.destination,
        )
        self._check_material()
        _check(
            self.encapsulation is None or self.protocol == ESP,
            "encapsulation",
            "None, because AH does not pass a NAT",
            self.encapsulation,
        )
        _check(0 <= self.tfc <= 0xFFFF, "tfc", "0 to 65535", self.tfc)
        _check(
            not self.tfc or (self.protocol, self.mode) == (ESP, Mode.TUNNEL),
            "tfc",
            "0 but for ESP in tunnel mode",
            self.tfc,
        )
        _check(self.ah_align in (4, 8), "ah_align", "4 or 8", self.ah_align)
        _check(0 <= self.replay_window <= 4096, "replay_window", "0 to 4096", self.replay_window)
        _check(
            0 <= self.sequence < 1 << (64 if self.esn else 32),
            "sequence",
            f"0 to 2^{64 if self.esn else 32} - 1",
            self.sequence,
        )
        _check(
            self.last_sequence is None or self.sequence <= self.last_sequence < 1 << (64 if self.esn else 32),
            "last_sequence",
            f"None, or {self.sequence} to 2^{64 if self.esn else 32} - 1",
            self.last_sequence,
        )
        _check(
            0 <= self.window < 1 << max(self.replay_window, 1),
            "window",
            f"{self.replay_window} bits",
            self.window,
        )
        _check(0 <= self.mtu <= 0xFFFF, "mtu", "0 to 65535", self.mtu)
        _check(0 <= self.outer_tos <= 255, "outer_tos", "0 to 255", self.outer_tos)
        _check(1 <= self.outer_ttl <= 255, "outer_ttl", "1 to 255", self.outer_ttl)
        for name in ("bytes", "packets", "seconds"):
            soft, hard = getattr(self.soft, name), getattr(self.hard, name)
            _check(
                soft is None or hard is None or soft <= hard,
                f"soft {name}",
                f"at most hard {name}, {hard!r}",
                soft,
            )

    def _check_material(self) -> None:
        form = CIPHERS[self.cipher]
        name = self.cipher.value
        if self.protocol == AH:
            _check(self.cipher == Cipher.NULL, "cipher", "null, because AH does not encrypt", name)
            _check(self.auth != Auth.NONE, "auth", "an HMAC, because AH authenticates", self.auth.value)
        _check(
            len(self.key) in form.keys,
            "key",
            f"{' or '.join(map(str, form.keys))} bytes for {name}",
            _length(self.key),
        )
        _check(len(self.salt) == form.salt, "salt", f"{form.salt} bytes for {name}", _length(self.salt))
        if form.icvs:
            _check(
                self.icv_bytes in form.icvs,
                "icv_bytes",
                f"{' or '.join(map(str, form.icvs))} for {name}",
                self.icv_bytes,
            )
            _check(self.auth == Auth.NONE, "auth", f"none, because {name} authenticates", self.auth.value)
        else:
            _check(
                self.icv_bytes == 0, "icv_bytes", f"0, because {name} does not authenticate", self.icv_bytes
            )
            _check(
                self.auth != Auth.NONE,
                "auth",
                f"an HMAC, because {name} does not authenticate",
                self.auth.value,
            )
        expected = AUTHS[self.auth].key if self.auth != Auth.NONE else 0
        _check(
            len(self.auth_key) == expected,
            "auth_key",
            f"{expected} bytes for {self.auth.value}",
            _length(self.auth_key),
        )

    @property
    def identity(self) -> Identity:
        """{destination, protocol, SPI}: what a receiver knows the SA by. Of an outbound one with the peer's
        port in UDP besides, for behind one address there may be several receivers (RFC 3948 5.1), and with
        what policies know it by: it was the receiver who chose the SPI, and who says where it is, so that
        one could give its SA the name of another's."""
        name = (self.destination, self.protocol, self.spi)
        if self.direction == Direction.INBOUND:
            return name
        return (
            *name,
            self.encapsulation.destination_port if self.encapsulation is not None else 0,
            self.reqid,
        )

    @property
    def last_number(self) -> int:
        """The last sequence number that it may use."""
        return (1 << (64 if self.esn else 32)) - 1 if self.last_sequence is None else self.last_sequence

    @property
    def icv(self) -> int:
        """Bytes of the integrity check value."""
        return self.icv_bytes or AUTHS[self.auth].icv

    @property
    def suite(self) -> str:
        """Its algorithms in words, such as ``aes-cbc-128 with hmac-sha256-128``; nothing secret."""
        cipher = self.cipher.value if not self.key else f"{self.cipher.value}-{8 * len(self.key)}"
        return (
            f"{cipher} with {self.auth.value}"
            if self.auth != Auth.NONE
            else f"{cipher}, {self.icv_bytes}-byte ICV"
        )

    def __str__(self) -> str:
        kind = "ESP" if self.protocol == ESP else "AH"
        return f"{self.direction.name.lower()} {kind} SA 0x{self.spi:08x} to {self.destination}"


def _length(secret: bytes) -> str:
    """A secret as an error may show it."""
    return counted(len(secret), "byte")


@dataclass(frozen=True)
class SaState:
    """How far an SA is. ``sequence`` and ``window`` as in :class:`Sa`; bytes and packets count towards its
    lifetime."""

    sequence: int = 0
    window: int = 0
    bytes: int = 0
    packets: int = 0
