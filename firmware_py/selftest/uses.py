# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The SAs that a march over the SADs writes, and the packets that show their bits.

Each place is used five times. Between them every bit of a row that a packet can show is 0 once and 1 once:

============  ===========================================================================================
use           what it shows
============  ===========================================================================================
1, 2          outbound, tunnel mode: outer header, SPI, keys of 256 bits, rows of the HMAC, sequence
              number; in the second all bits are the other way round, and its second packet passes a hard
              lifetime, of bytes or of packets
3, 4          inbound, tunnel mode: SPI, keys, salt, hash subkey, selectors, window; likewise
5             outbound, transport mode, another suite: the second packet passes the other lifetime
============  ===========================================================================================
"""

from collections.abc import Iterator
from dataclasses import dataclass

from spigate.firmware_py.errors import InputError
from spigate.firmware_py.ipsec.packet import rewrite
from spigate.firmware_py.ipsec.sa import Cipher as Named
from spigate.firmware_py.ipsec.sa import SaState
from spigate.firmware_py.selftest import patterns
from spigate.firmware_py.selftest.esp import KEY_BYTES, RawKeys
from spigate.firmware_py.selftest.frames import HOST, PEER, framed, ip_packet, udp_packet
from spigate.firmware_py.selftest.session import State
from spigate.firmware_py.tables.interface import AUTHS, CIPHERS, Capabilities
from spigate.hdl.contract import rdl
from spigate.hdl.contract.constants import SPARE_NUMBERS
from spigate.hdl.contract.enums import Auth, Cipher, Df, Direction, KeySize, Mode
from spigate.hdl.contract.protocols import ECN_CE, ECT_0, ESP, IPV4_IN_IP, TCP, UDP

ALL32, ALL64 = (1 << 32) - 1, (1 << 64) - 1
FAR = 0x5533_0000
"""Destinations of clear packets, one for each rule that leads to an SA."""
INNER_BYTES = 36
"""Of the packets of UDP that are protected."""


@dataclass(frozen=True)
class Suite:
    """Codes of a cipher, a key's size and an authenticator."""

    cipher: Cipher
    key_size: KeySize
    auth: Auth


def suites(has: Capabilities) -> list[Suite]:
    """All suites that a gateway has, by its capability registers."""
    found = []
    for named in sorted(has.ciphers, key=lambda each: CIPHERS[each]):
        sizes = [code for code, size in KEY_BYTES.items() if size in has.aes_keys]
        sizes = [KeySize.AES128] if named == Named.NULL else sorted(sizes)
        auths = [Auth.NONE] if named == Named.AES_GCM else sorted(AUTHS[each] for each in has.auths)
        found += [Suite(CIPHERS[named], KeySize(size), Auth(auth)) for size in sizes for auth in auths]
    return found


def chosen(has: Capabilities) -> tuple[Suite, Suite, Suite, Suite, Suite]:
    """The suites of the five uses. Raises InputError where the gateway has none at all."""
    every = suites(has)
    if not every:
        raise InputError("the capability registers name no suite")
    apart = [suite for suite in every if suite.auth != Auth.NONE]
    own = [suite for suite in every if suite.auth == Auth.NONE]
    outbound = max(apart or own, key=lambda suite: (suite.cipher, suite.key_size, suite.auth))
    inbound = sorted(
        own or [suite for suite in apart if (suite.cipher, suite.auth) == (outbound.cipher, outbound.auth)],
        key=lambda suite: suite.key_size,
    )
    last = min(apart or own, key=lambda suite: (suite.cipher, suite.auth, suite.key_size))
    return outbound, outbound, inbound[0], inbound[min(1, len(inbound) - 1)], last


@dataclass(frozen=True)
class Use:
    """What one use does with every place.

    Members
    -------
    number : int
        1 to 5, as above.
    suite : Suite
    """

    number: int
    suite: Suite

    @property
    def inbound(self) -> bool:
        return self.number in (3, 4)

    @property
    def name(self) -> str:
        cipher, auth = self.suite.cipher.name.lower(), self.suite.auth.name.lower()
        algorithms = f"{cipher} with {8 * KEY_BYTES[self.suite.key_size]} bits, {auth}"
        return f"use {self.number}, {'inbound' if self.inbound else 'outbound'}, {algorithms}"


@dataclass(frozen=True)
class Placed:
    """An SA at a place, for a use.

    Members
    -------
    use : Use
    dfe, index : int
    """

    use: Use
    dfe: int
    index: int

    def _number(self, bits: int, name: str) -> int:
        """Its number for a field: in the second use of a direction the complement."""
        value = patterns.number(bits, name, self.use.inbound, self.dfe, self.index)
        return patterns.complement(value, bits) if self.use.number in (2, 4) else value

    def _address(self, name: str) -> int:
        value = patterns.address(name, self.use.inbound, self.dfe, self.index)
        return patterns.complement(value) if self.use.number in (2, 4) else value

    @property
    def spi(self) -> int:
        """Never one of the reserved ones: its top bits are not alike."""
        return self._number(32, "spi") & ALL32 >> 2 | (1 + self.use.number % 2) << 30

    @property
    def generation(self) -> int:
        return self._number(8, "generation")

    @property
    def transport(self) -> bool:
        return self.use.number == 5

    @property
    def sequence(self) -> int:
        """Where it begins. Outbound the upper half is 0, without which nothing is sent."""
        low = self._number(32, "sequence") & ALL32 >> 2 | (1 + self.use.number % 2) << 30
        return low | self._number(32, "upper half") << 32 if self.use.inbound else low

    @property
    def window(self) -> int:
        """Received before: not the numbers that its packets have."""
        free = {3: (63,), 4: (62, 63)}.get(self.use.number, ())
        return self._number(64, "window") & ~sum(1 << bit for bit in free)

    @property
    def offset(self) -> int:
        """How far its packet is behind the highest number: the last one in the window."""
        return 63 if self.use.number == 3 else 62

    @property
    def keys(self) -> RawKeys:
        def some(size: int, name: str) -> bytes:
            return self._number(8 * size, name).to_bytes(size, "little")

        suite = self.use.suite
        return RawKeys(
            suite.cipher, suite.key_size, suite.auth, some(32, "key"), some(64, "auth"), some(4, "salt")
        )

    @property
    def ports(self) -> tuple[int, int]:
        """Of what comes out of it, if it is inbound: no end of the range."""
        source, destination = (self._number(16, name) for name in ("from", "to"))
        return min(max(source, 1), 0xFFFE), min(max(destination, 1), 0xFFFE)

    @property
    def protocol(self) -> int:
        return TCP if self.use.number == 4 else UDP

    @property
    def outer_ttl(self) -> int:
        return self._number(8, "ttl") & 0x7E | (1 if self.use.number % 2 else 0x80)

    @property
    def mtu(self) -> int:
        """Use 1: the packet's length. Use 2: one high bit, another one from place to place."""
        return {1: INNER_BYTES, 2: 1 << 6 + self.index % 10 | 1}.get(self.use.number, 0)

    @property
    def ends(self) -> bool:
        """Its second packet passes a hard limit: of bytes in one of two uses, of packets in the other."""
        return self.use.number in (2, 5)

    @property
    def size(self) -> int:
        """Bytes of its packet that count."""
        return INNER_BYTES - 20 * self.transport

    @property
    def limits(self) -> tuple[int, int, int, int]:
        """Soft and hard bytes, soft and hard packets."""
        bit = self.index % 64
        if self.use.number == 1:
            return INNER_BYTES, max(1 << bit, INNER_BYTES), ALL64, 1 << bit
        if self.ends:
            of_bytes = (self.index ^ self.index >> 3 ^ self.transport) & 1
            return (ALL64, self.size, ALL64, ALL64) if of_bytes else (ALL64, ALL64, ALL64, 1)
        return ALL64, ALL64, ALL64, ALL64

    def control(self, *, valid: bool = True) -> dict[str, int]:
        """Row ``control``."""
        number, suite = self.use.number, self.use.suite
        return {
            "valid": valid,
            "direction": Direction.INBOUND if self.use.inbound else Direction.OUTBOUND,
            "mode": Mode.TRANSPORT if self.transport else Mode.TUNNEL,
            "anti_replay": self.use.inbound,
            "check_selectors": self.use.inbound,
            "copy_tos": number == 3,
            "df": Df.COPY if number == 2 else Df.SET,
            "cipher": suite.cipher,
            "key_size": suite.key_size,
            "auth": suite.auth,
            "window_size": {3: 64, 4: 63}.get(number, 0),
            "outer_ttl": self.outer_ttl,
            "spi": self.spi,
            "salt": int.from_bytes(self.keys.salt, "little"),
            "mtu": self.mtu,
            "outer_tos": self._number(8, "tos"),
            "generation": self.generation,
        }

    def words(self) -> list[int]:
        """The whole entry."""
        keys, (soft_bytes, hard_bytes, soft_packets, hard_packets) = self.keys, self.limits
        source, destination = self._address("source"), self._address("destination")
        ports = {
            f"{side}_port_{end}": port
            for side, port in zip(("source", "destination"), self.ports, strict=True)
            for end in ("low", "high")
        }
        named = {
            "control": self.control(),
            "tunnel": {"source": self._address("outer source"), "destination": self.outer_destination},
            "selector_addresses": {
                "source": source,
                "source_mask": ALL32,
                "destination": destination,
                "destination_mask": ALL32,
            },
            "selector_ports": {**ports, "protocol": self.protocol},
            "key_low": {"value": int.from_bytes(keys.key[:16], "little")},
            "key_high": {"value": int.from_bytes(keys.key[16:], "little")},
            **{
                f"auth_{at}": {"value": int.from_bytes(keys.auth_rows[16 * at : 16 * at + 16], "little")}
                for at in range(4)
            },
            "byte_lifetime": {"soft": soft_bytes, "hard": hard_bytes},
            "packet_lifetime": {"soft": soft_packets, "hard": hard_packets},
            "replay": {"sequence": self.sequence, "window": self.window},
        }
        return [word for name, row in rdl.entry("sa").items() for word in row.pack(named[name])]

    @property
    def outer_destination(self) -> int:
        return self._address("outer destination")

    # Outbound

    def clear(self, rule: int, *, size: int = INNER_BYTES) -> bytes:
        """The frame that rule ``rule`` leads to it."""
        return framed(self._clear(rule, size))

    def _clear(self, rule: int, size: int = INNER_BYTES) -> bytes:
        return udp_packet(self.index, HOST, FAR + rule, size=size - 28, dont_fragment=self.use.number != 2)

    def protected(self, rule: int, count: int = 1) -> bytes:
        """What the ``count``-th of those frames becomes."""
        number, inner, control = self.sequence + count, self._clear(rule), self.control()
        if self.transport:
            body = self.keys.seal(self.spi, number, inner[20:], inner[9])
            return framed(rewrite(inner[:20] + body, 20, total_length=20 + len(body), protocol=ESP))
        body = self.keys.seal(self.spi, number, inner, IPV4_IN_IP)
        outer = ip_packet(
            ESP,
            body,
            self._address("outer source"),
            self.outer_destination,
            ttl=self.outer_ttl,
            tos=control["outer_tos"],
            dont_fragment=control["df"] == Df.SET,
        )
        return framed(outer)

    # Inbound

    def plain(self, **changes: int) -> bytes:
        """The frame that comes out of it; ``changes``: what is other than its selectors say."""
        given = {
            "source": self._address("source"),
            "destination": self._address("destination"),
            "source_port": self.ports[0],
            "destination_port": self.ports[1],
            "protocol": self.protocol,
            "tos": ECN_CE if self.use.number == 3 else 0,
            **changes,
        }
        packet = udp_packet(
            self.index,
            given["source"],
            given["destination"],
            (given["source_port"], given["destination_port"]),
        )
        return framed(
            ip_packet(given["protocol"], packet[20:], given["source"], given["destination"], tos=given["tos"])
        )

    def sealed(self, to: int, offset: int, **changes: int) -> bytes:
        """The frame that goes into it, to the address ``to``; its number is ``offset`` behind the highest."""
        marked = self.use.number == 3
        inner = self.plain(**changes, **({"tos": ECT_0} if marked else {}))[14:]
        number = self.sequence - offset & ALL32
        body = self.keys.seal(self.spi, number, inner, IPV4_IN_IP)
        return framed(ip_packet(ESP, body, PEER, to, tos=ECN_CE if marked else 0))

    def near_misses(self, turns: range) -> Iterator[tuple[str, dict[str, int]]]:
        """Packets that just do not match its selectors: those of all whose numbers are in ``turns``."""
        misses: list[tuple[str, dict[str, int] | None]] = []
        for side in ("source", "destination"):
            near = dict(patterns.neighbours(self._address(side)))
            misses += [
                (f"{side}, bit {bit}", {side: near[bit]} if bit in near else None) for bit in range(32)
            ]
        for side, port in zip(("source_port", "destination_port"), self.ports, strict=True):
            misses += [(f"{side} below {port}", {side: port - 1}), (f"{side} above {port}", {side: port + 1})]
        misses.append(("protocol", {"protocol": UDP if self.protocol == TCP else TCP}))
        for turn in turns:
            name, change = misses[turn]
            if change is not None:
                yield name, change

    # Afterwards

    def state(self) -> State:
        """How far it is after its packets."""
        soft_bytes, _, soft_packets, _ = self.limits
        if self.use.inbound:
            state = SaState(self.sequence, self.window | 1 << self.offset, self.size, 1)
            return State(state, self._spare(self.sequence - self.offset), False)
        used = 2 if self.ends else 1
        state = SaState(self.sequence + used, self.window, self.size, 1)
        soft = soft_bytes <= self.size or soft_packets <= 1 or self._spare(self.sequence + used)
        return State(state, soft, self.ends)

    @staticmethod
    def _spare(number: int) -> bool:
        """Few numbers are left at this one."""
        return number & ALL32 >= (1 << 32) - SPARE_NUMBERS
