# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""An SA at work in software: one packet at a time, in and out of ESP (RFC 4303) or AH (RFC 4302).

It decides what the gateware decides, in the same order and with the same reasons; so it is the reference
model of a DFE, and does what a DFE cannot.
"""

from collections.abc import Sequence

from spigate.firmware_py.errors import InputError
from spigate.firmware_py.ipsec import tunnel
from spigate.firmware_py.ipsec.ah import Ah, Signed
from spigate.firmware_py.ipsec.anti_replay import ReplayWindow
from spigate.firmware_py.ipsec.esp import Esp, Text
from spigate.firmware_py.ipsec.packet import TCP, UDP, Ip, Refused, martian, rewrite, transport_checksum
from spigate.firmware_py.ipsec.sa import AH, Sa, SaState, Selectors
from spigate.hdl.contract.enums import Direction, Mode, Reason

NO_NEXT_HEADER = 59
"""The next header of a dummy packet (RFC 4303 2.6)."""
_LONG = 0xFE00
"""Shorter packets stay below 64 KiB, whatever an SA puts around them."""
_LARGEST_OVERHEAD = 128
"""More than the headers and trailers of any SA, the IP header aside."""
SPARE_NUMBERS = 1 << 28
"""Sequence numbers that are left when an SA is to be replaced, as in the gateware."""
_CHECKSUMS = {TCP: 16, UDP: 6}
"""Where they stand, by protocol."""


class SoftSa:
    """An SA at work: its state, and ESP or AH for its packets.

    Parameters
    ----------
    sa : Sa
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
    """

    def __init__(self, sa: Sa, permitted: Sequence[Selectors] | None = None, state: SaState | None = None):
        self.sa, self._permitted = sa, permitted
        self._versions = {selectors.source.version for selectors in permitted or ()} or {4, 6}
        self._protocol = Ah(sa) if sa.protocol == AH else Esp(sa)
        state = state or SaState(sa.sequence, sa.window)
        self._window = ReplayWindow(
            sa.replay_window, esn=sa.esn, sequence=state.sequence, received=state.window
        )
        self._bytes, self._packets = state.bytes, state.packets
        self.soft_reached, self._stopped = False, False

    @property
    def worn(self) -> bool:
        """Whether a soft byte or packet lifetime is reached, or few sequence numbers are left."""
        limits = ((self._bytes, self.sa.soft.bytes), (self._packets, self.sa.soft.packets))
        limited = self.sa.last_sequence is not None  # whoever limits the numbers sees to it by itself
        return (self._left() < SPARE_NUMBERS and not limited) or any(
            limit is not None and used >= limit for used, limit in limits
        )

    @property
    def over(self) -> bool:
        """Whether it has stopped at a hard lifetime, or used its last sequence number."""
        return self._stopped or self._left() <= 0

    def _left(self) -> int:
        return self.sa.last_number - self._window.sequence

    @property
    def state(self) -> SaState:
        return SaState(self._window.sequence, self._window.received, self._bytes, self._packets)

    def decapsulate(self, packet: bytes) -> bytes:
        """The IP packet that ``packet``, ESP or AH with its IP header, carries.

        Raises
        ------
        Refused
            In the order of the tests: MALFORMED, REPLAY, ICV, PADDING or DUMMY, MALFORMED (header inside),
            MARTIAN, POLICY, LIFETIME.
        """
        outer, opened, number = self._open(packet)
        self._window.accept(number)
        payload, next_header = opened.strip()
        alive = self._age(len(payload))
        if next_header == NO_NEXT_HEADER:
            raise Refused(Reason.DUMMY)
        if self.sa.mode == Mode.TUNNEL:
            plain = tunnel.uncover(self.sa, outer, payload, next_header, self._versions)
        else:
            plain = self._restore(packet, outer, payload, next_header)
        self._inspect(plain)
        if not alive:
            raise Refused(Reason.LIFETIME)
        return plain

    def authentic(self, packet: bytes) -> None:
        """Refused as MALFORMED, REPLAY or ICV where ``packet`` is not a new one of this SA. Nothing is
        counted, no window moves.
        """
        self._open(packet)

    def _open(self, packet: bytes) -> tuple[Ip, Signed | Text, int]:
        """The header outside, what is inside and the number of a packet that is authentic and new."""
        self._must_be(Direction.INBOUND)
        outer = Ip.parse(packet)
        if outer.fragment:
            raise Refused(Reason.MALFORMED)
        taken = self._protocol.take(packet, outer)
        number = self._window.extend(taken.sequence)
        if not self._window.fresh(number):
            raise Refused(Reason.REPLAY)
        opened = taken.open(self._high(number))
        if opened is None:
            raise Refused(Reason.ICV)
        return outer, opened, number

    def _restore(self, packet: bytes, outer: Ip, payload: bytes, next_header: int) -> bytes:
        """Transport mode: the packet as it was before. What came through a NAT gets the checksum that
        belongs to the addresses that it now has (RFC 3948 3.1.2)."""
        at = _CHECKSUMS.get(next_header)
        if (
            self.sa.encapsulation
            and at
            and len(payload) >= at + 2
            and (next_header == TCP or any(payload[at : at + 2]))
        ):
            payload = payload[:at] + bytes(2) + payload[at + 2 :]
            value = transport_checksum(outer.source.packed, outer.destination.packed, next_header, payload)
            payload = payload[:at] + (value or 0xFFFF * (next_header == UDP)).to_bytes(2) + payload[at + 2 :]
        return rewrite(
            packet[: outer.header_bytes] + payload,
            outer.header_bytes,
            protocol_at=outer.protocol_at,
            total_length=outer.header_bytes + len(payload),
            protocol=next_header,
        )

    def _inspect(self, plain: bytes) -> None:
        inner = Ip.parse(plain)
        if self.sa.mode == Mode.TUNNEL and martian(inner, group=False):
            raise Refused(Reason.MARTIAN)
        if self._permitted is not None and not any(
            selectors.matches(inner.source, inner.destination, inner.protocol, inner.ports)
            for selectors in self._permitted
        ):
            raise Refused(Reason.POLICY)

    def encapsulate(
        self,
        packet: bytes,
        *,
        decrement_ttl: bool = False,
        mtu: int = 0xFFFF,
        identification: int | None = None,
    ) -> bytes:
        """The packet of ESP or AH, with its IP header, that carries the IP packet ``packet``. It may be
        longer than its link takes: see :meth:`room`. Only padding for traffic flow confidentiality keeps to
        ``mtu``.

        ``identification`` is that of the packet that leaves, if it is IPv4 and begins on this machine;
        None: that of ``packet`` in transport mode, and in tunnel mode see :func:`.tunnel.header`.

        Raises
        ------
        Refused
            MALFORMED (in transport mode also a fragment, or other addresses' IP version), TTL_EXPIRED,
            TOO_BIG, SEQUENCE_OVERFLOW, LIFETIME.
        """
        self._must_be(Direction.OUTBOUND)
        inner = Ip.parse(packet)
        transport = self.sa.mode == Mode.TRANSPORT
        if transport and (inner.fragment or inner.version != self.sa.source.version):
            raise Refused(Reason.MALFORMED)
        packet = packet[: inner.total_length]
        if decrement_ttl:
            if inner.ttl <= 1:
                raise Refused(Reason.TTL_EXPIRED)
            packet = rewrite(packet, inner.header_bytes, ttl=inner.ttl - 1)
        if transport and inner.version == 4 and identification is not None:
            packet = rewrite(packet, inner.header_bytes, identification=identification)
        if (self.sa.mtu and inner.total_length > self.sa.mtu) or (
            inner.total_length > _LONG and inner.total_length > self.room(0xFFFF, inner.unfragmentable[0])
        ):
            raise Refused(Reason.TOO_BIG)
        number = self._window.sequence + 1
        if number > self.sa.last_number:
            raise Refused(Reason.SEQUENCE_OVERFLOW)
        self._window.sequence = number
        if transport:
            at, protocol_at = inner.unfragmentable
            header, payload, next_header = packet[:at], packet[at:], packet[protocol_at]
        else:
            header = tunnel.header(self.sa, inner, number, identification)
            protocol_at = 6 if self.sa.source.version == 6 else 9
            payload, next_header = packet, tunnel.NEXT_HEADERS[inner.version]
            if self.sa.tfc:
                payload = payload.ljust(min(self.sa.tfc, self.room(mtu, len(header))), b"\0")
        if not self._age(len(payload)):
            raise Refused(Reason.LIFETIME)
        return self._protocol.wrap(header, protocol_at, number, self._high(number), payload, next_header)

    def room(self, mtu: int, header_bytes: int) -> int:
        """Bytes of the longest packet that becomes one of ``mtu`` bytes or less; in transport mode of those
        with ``header_bytes`` in front of ESP or AH."""
        transport = self.sa.mode == Mode.TRANSPORT
        outer = header_bytes if transport else tunnel.HEADER_BYTES[self.sa.source.version]
        longest = mtu - outer
        payload = next(
            (
                size
                for size in range(longest, max(longest - _LARGEST_OVERHEAD, 0), -1)
                if self._protocol.size(size) <= longest
            ),
            0,
        )
        return payload + outer * transport

    def _age(self, size: int) -> bool:
        """Counts a packet with ``size`` bytes of payload; False, and nothing is counted, where a hard
        lifetime would be passed."""
        self.soft_reached = False
        hard, soft = self.sa.hard, self.sa.soft
        counts = ((self._bytes, size, soft.bytes, hard.bytes), (self._packets, 1, soft.packets, hard.packets))
        if any(limit is not None and used + more > limit for used, more, _, limit in counts):
            self._stopped = True
            return False
        self._bytes, self._packets = self._bytes + size, self._packets + 1
        self.soft_reached = any(
            limit is not None and used < limit <= used + more for used, more, limit, _ in counts
        )
        return True

    def _high(self, number: int) -> bytes:
        return (number >> 32).to_bytes(4) if self.sa.esn else b""

    def _must_be(self, direction: Direction) -> None:
        if self.sa.direction != direction:
            raise InputError(f"The SA must be {direction.name.lower()}, not {self.sa}")
