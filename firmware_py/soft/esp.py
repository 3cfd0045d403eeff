"""ESP in software (RFC 4303): one SA, one packet at a time.

It decides what the gateware decides, in the same order and with the same reasons; so it is the reference
model of a DFE, and does what a DFE cannot.
"""
import struct
from collections.abc import Sequence

from cryptography.hazmat.primitives.ciphers import Cipher as Crypt
from cryptography.hazmat.primitives.ciphers import algorithms, modes

from spigate.firmware_py.errors import InputError, UnsupportedError
from spigate.firmware_py.packet import Ipv4, Refused, checksum, rewrite
from spigate.firmware_py.punt import Reason
from spigate.firmware_py.sa import CIPHERS, ESP, Cipher, Df, Direction, Mode, Sa, Selectors
from spigate.firmware_py.soft.replay import ReplayWindow
from spigate.firmware_py.soft.transform import transform
from spigate.firmware_py.tables import SaState

IPV4_IN_ESP, NO_NEXT_HEADER = 4, 59
ECN_CE = 3


class SoftSa:
    """An SA at work: state, and ESP for its packets.

    Parameters
    ----------
    sa : Sa
        ESP over IPv4, tunnel or transport mode.
    permitted : sequence of Selectors or None
        What it may carry (inbound): packets that match one of them. None: anything.
    state : SaState or None
        Where to go on; None: from the SA's own ``sequence`` and ``window``.

    Members
    -------
    state : SaState
        How far it is.
    soft_reached : bool
        The last packet reached a soft byte or packet lifetime: true for one packet of each in an SA's life.

    Raises
    ------
    UnsupportedError
        AH, IPv6, or ESP in UDP.
    """

    def __init__(self, sa: Sa, permitted: Sequence[Selectors] | None = None, state: SaState | None = None):
        versions = {sa.source.version, *(selectors.source.version for selectors in permitted or ())}
        for lacking, name in ((sa.protocol != ESP, "AH"), (versions != {4}, "IPv6"),
                              (sa.encapsulation is not None, "ESP in UDP")):
            if lacking:
                raise UnsupportedError(f"The software path lacks {name}, which {sa} needs")
        self.sa, self._permitted = sa, permitted
        self._form, self._transform = CIPHERS[sa.cipher], transform(sa)
        state = state or SaState(sa.sequence, sa.window)
        self._window = ReplayWindow(sa.replay_window, esn=sa.esn, sequence=state.sequence, received=state.window)
        self._bytes, self._packets = state.bytes, state.packets
        self.soft_reached = False

    @property
    def state(self) -> SaState:
        return SaState(self._window.sequence, self._window.received, self._bytes, self._packets)

    def decapsulate(self, packet: bytes, *, decrement_ttl: bool = False) -> bytes:
        """The IPv4 packet that the ESP packet ``packet`` (with its IPv4 header) carries.

        Parameters
        ----------
        decrement_ttl : bool
            Count its time to live down, as a router does.

        Raises
        ------
        Refused
            In the order of the tests: MALFORMED, REPLAY, ICV, PADDING or DUMMY, MALFORMED (header inside),
            TTL, POLICY, LIFETIME.
        """
        self._must_be(Direction.INBOUND)
        outer = Ipv4.parse(packet)
        body = packet[outer.header_bytes:outer.total_length]
        text_bytes = len(body) - 8 - self._form.iv - self.sa.icv
        if outer.protocol != ESP or text_bytes < self._form.block or text_bytes % self._form.block:
            raise Refused(Reason.MALFORMED)
        header, iv, sealed = body[:8], body[8:8 + self._form.iv], body[8 + self._form.iv:]
        number = self._window.extend(int.from_bytes(header[4:]))
        if not self._window.fresh(number):
            raise Refused(Reason.REPLAY)
        text = self._transform.open(header, self._high(number), iv, sealed)
        if text is None:
            raise Refused(Reason.ICV)
        self._window.accept(number)
        payload, next_header = _strip(text)
        alive = self._age(len(payload))
        plain = self._uncover(packet, outer, payload, next_header)
        plain, inner = self._inspect(plain, decrement_ttl)
        if self._permitted is not None and not any(
                selectors.matches(inner.source, inner.destination, inner.protocol, inner.ports)
                for selectors in self._permitted):
            raise Refused(Reason.POLICY)
        if not alive:
            raise Refused(Reason.LIFETIME)
        return plain

    def _uncover(self, packet: bytes, outer: Ipv4, payload: bytes, next_header: int) -> bytes:
        """The packet inside, its IPv4 header as it was or, in transport mode, as it is to be."""
        if next_header == NO_NEXT_HEADER:
            raise Refused(Reason.DUMMY)
        if self.sa.mode == Mode.TUNNEL and next_header != IPV4_IN_ESP:
            raise Refused(Reason.PADDING)
        if self.sa.mode == Mode.TRANSPORT:
            return rewrite(packet[:outer.header_bytes] + payload, outer.header_bytes,
                           total_length=outer.header_bytes + len(payload), protocol=next_header)
        inner = Ipv4.parse(payload)
        plain = payload[:inner.total_length]
        if self.sa.copy_tos and outer.tos & 3 == ECN_CE:
            if not inner.tos & 3:
                raise Refused(Reason.MALFORMED)
            plain = rewrite(plain, inner.header_bytes, tos=inner.tos | ECN_CE)
        return plain

    def _inspect(self, plain: bytes, decrement_ttl: bool) -> tuple[bytes, Ipv4]:
        inner = Ipv4.parse(plain)
        if decrement_ttl:
            if inner.ttl <= 1:
                raise Refused(Reason.TTL)
            plain = rewrite(plain, inner.header_bytes, ttl=inner.ttl - 1)
        return plain, inner

    def encapsulate(self, packet: bytes, *, decrement_ttl: bool = False) -> bytes:
        """The ESP packet, with its IPv4 header, that carries the IPv4 packet ``packet``.

        Raises
        ------
        Refused
            MALFORMED, TTL_EXPIRED, TOO_BIG, SEQUENCE_OVERFLOW, LIFETIME.
        """
        self._must_be(Direction.OUTBOUND)
        inner = Ipv4.parse(packet)
        packet = packet[:inner.total_length]
        if decrement_ttl:
            if inner.ttl <= 1:
                raise Refused(Reason.TTL_EXPIRED)
            packet = rewrite(packet, inner.header_bytes, ttl=inner.ttl - 1)
        if self.sa.mtu and inner.total_length > self.sa.mtu:
            raise Refused(Reason.TOO_BIG)
        number = self._window.sequence + 1
        if number >= 1 << (64 if self.sa.esn else 32):
            raise Refused(Reason.SEQUENCE_OVERFLOW)
        self._window.sequence = number
        tunnel = self.sa.mode == Mode.TUNNEL
        payload, next_header = (packet, IPV4_IN_ESP) if tunnel else (packet[inner.header_bytes:], inner.protocol)
        if not self._age(len(payload)):
            raise Refused(Reason.LIFETIME)
        padding = -(len(payload) + 2) % self._form.block
        text = payload + bytes(range(1, padding + 1)) + bytes([padding, next_header])
        header = struct.pack(">II", self.sa.spi, number & 0xFFFF_FFFF)
        iv = self._iv(number)
        body = header + iv + self._transform.seal(header, self._high(number), iv, text)
        if tunnel:
            return self._outer_header(inner, number, len(body)) + body
        return rewrite(packet[:inner.header_bytes] + body, inner.header_bytes,
                       total_length=inner.header_bytes + len(body), protocol=ESP)

    def _iv(self, number: int) -> bytes:
        """Counter modes: the sequence number. CBC: the encryption of a number used once (NIST SP 800-38A,
        appendix C)."""
        if self.sa.cipher == Cipher.AES_CBC:
            encryptor = Crypt(algorithms.AES(self.sa.key), modes.ECB()).encryptor()
            return encryptor.update(struct.pack(">IIQ", self.sa.spi, 0, number)) + encryptor.finalize()
        return number.to_bytes(8) if self._form.iv else b""

    def _outer_header(self, inner: Ipv4, number: int, body_bytes: int) -> bytes:
        tos = inner.tos if self.sa.copy_tos else self.sa.outer_tos
        whole = self.sa.df == Df.SET or (self.sa.df == Df.COPY and inner.dont_fragment)
        header = struct.pack(">BBHHHBBH4s4s", 0x45, tos, 20 + body_bytes, 0 if whole else number & 0xFFFF,
                             0x4000 if whole else 0, self.sa.outer_ttl, ESP, 0,
                             self.sa.source.packed, self.sa.destination.packed)
        return header[:10] + checksum(header).to_bytes(2) + header[12:]

    def _age(self, size: int) -> bool:
        """Counts a packet with ``size`` bytes of payload; False, and nothing is counted, where a hard
        lifetime would be passed."""
        self.soft_reached = False
        hard, soft = self.sa.hard, self.sa.soft
        counts = ((self._bytes, size, soft.bytes, hard.bytes), (self._packets, 1, soft.packets, hard.packets))
        if any(limit is not None and used + more > limit for used, more, _, limit in counts):
            return False
        self._bytes, self._packets = self._bytes + size, self._packets + 1
        self.soft_reached = any(limit is not None and used < limit <= used + more for used, more, limit, _ in counts)
        return True

    def _high(self, number: int) -> bytes:
        return (number >> 32).to_bytes(4) if self.sa.esn else b""

    def _must_be(self, direction: Direction) -> None:
        if self.sa.direction != direction:
            raise InputError(f"The SA must be {direction.name.lower()}, not {self.sa}")


def _strip(text: bytes) -> tuple[bytes, int]:
    """Payload and next header, without the trailer (RFC 4303 2.4: the padding is 1, 2, 3, ...)."""
    padding, next_header = text[-2], text[-1]
    payload = text[:-2 - padding]
    if padding + 2 > len(text) or text[len(payload):-2] != bytes(range(1, padding + 1)):
        raise Refused(Reason.PADDING)
    return payload, next_header
