# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The protected message: SK (RFC 7296 3.14, RFC 5282) and SKF (RFC 7383), sealed and opened.

Cipher and ICV are those of ESP: what ESP authenticates as its header is here everything from the IKE header
to the payload's own header.
"""

import os
from dataclasses import dataclass, field

from spigate.firmware_py.ike.crypto.keys import IkeKeys
from spigate.firmware_py.ike.crypto.proposals import Suite
from spigate.firmware_py.ike.wire.errors import InvalidSyntax, NotAuthentic, PeerError
from spigate.firmware_py.ike.wire.message import HEADER, Header, Message
from spigate.firmware_py.ike.wire.payloads import GENERIC_HEADER, pack_chain, parse_chain
from spigate.firmware_py.ike.wire.registry import PayloadType
from spigate.firmware_py.ipsec.sa import AUTHS, CIPHERS, Auth, Cipher
from spigate.firmware_py.ipsec.transform import transform
from spigate.firmware_py.words import counted

_SKF_HEADER = GENERIC_HEADER + 4
_HEADERS: dict[int, int] = {PayloadType.SK: GENERIC_HEADER, PayloadType.SKF: _SKF_HEADER}


@dataclass(frozen=True)
class Limits:
    """What reassembly may hold at once, per :class:`Protection`: one message, of so many fragments and
    bytes.
    """

    fragments: int = 64
    bytes: int = 0xFFFF


OF_STRANGERS = Limits(bytes=16 << 10)
"""Of who has not shown who it is: anybody makes keys, and leaves its IKE_AUTH half sent. A chain of
certificates is half as long.
"""


@dataclass(frozen=True)
class _Material:
    """What a transform reads of an SA."""

    cipher: Cipher
    icv_bytes: int
    auth: Auth
    key: bytes = field(repr=False)
    salt: bytes = field(repr=False)
    auth_key: bytes = field(repr=False)


def _material(suite: Suite, key: bytes, auth_key: bytes) -> _Material:
    size = suite.key_bits // 8
    return _Material(suite.cipher, suite.icv_bytes, suite.auth, key[:size], key[size:], auth_key)


@dataclass
class _Partial:
    """The fragments of one message so far, in the clear. ``header``: of the first one that came."""

    header: Header
    total: int
    first: bytes = b""
    parts: dict[int, bytes] = field(default_factory=dict, repr=False)

    def belongs(self, header: Header) -> bool:
        return (self.header.message_id, self.header.response, self.header.exchange) == (
            header.message_id,
            header.response,
            header.exchange,
        )


class Protection:
    """Both directions of one IKE SA's keys.

    Parameters
    ----------
    suite : Suite
    keys : IkeKeys
    initiator : bool
        This side is the original initiator.
    limits : Limits
        May be replaced by others at any time.

    After RFC 9370's key update make a new one; the old one still opens what was sent before. An explicit IV
    never comes twice from one instance, so never make two that send with the same keys.
    """

    def __init__(self, suite: Suite, keys: IkeKeys, *, initiator: bool, limits: Limits = Limits()):  # noqa: B008
        of_initiator, of_responder = _material(suite, keys.ei, keys.ai), _material(suite, keys.er, keys.ar)
        sending, receiving = (of_initiator, of_responder) if initiator else (of_responder, of_initiator)
        form = CIPHERS[suite.cipher]
        self._sender, self._receiver = transform(sending), transform(receiving)
        self._iv_bytes, self._icv_bytes = form.iv, suite.icv_bytes or AUTHS[suite.auth].icv
        self._block = form.block if suite.cipher == Cipher.AES_CBC else 1
        self._random_iv = suite.cipher == Cipher.AES_CBC
        self._sent = 0
        self._initiator, self.limits = initiator, limits
        self._partial: _Partial | None = None

    def _iv(self) -> bytes:
        """CBC's must not be foreseen (RFC 7296 3.14), the others' must not repeat (RFC 5282 3.1)."""
        self._sent += 1
        return os.urandom(self._iv_bytes) if self._random_iv else self._sent.to_bytes(self._iv_bytes)

    def _sealed_bytes(self, text: int) -> int:
        """Length of IV, text, padding, its length and ICV."""
        return self._iv_bytes + text + 1 + -(text + 1) % self._block + self._icv_bytes

    def _room(self, budget: int) -> int:
        """The most text that is sealed into ``budget`` bytes."""
        room = budget - self._iv_bytes - self._icv_bytes
        return room - room % self._block - 1

    def _seal(self, message: Message, kind: PayloadType, own_header: bytes, first: int, text: bytes) -> bytes:
        length = GENERIC_HEADER + len(own_header) + self._sealed_bytes(len(text))
        covered = (
            message.header(kind).pack(HEADER + length) + bytes([first, 0]) + length.to_bytes(2) + own_header
        )
        padding = -(len(text) + 1) % self._block
        iv = self._iv()
        return covered + iv + self._sender.seal(covered, b"", iv, text + bytes(padding) + bytes([padding]))

    def seal(self, message: Message, fragment_bytes: int | None = None) -> list[bytes]:
        """Datagrams of a message whose payloads are the ones to hide.

        ``fragment_bytes``: largest datagram (IKE header to ICV); a longer message leaves as SKF fragments.
        None: never in fragments. The result is what to send and to send again: never seal a message twice.
        """
        first, text = pack_chain(message.payloads)
        if (
            fragment_bytes is None
            or HEADER + GENERIC_HEADER + self._sealed_bytes(len(text)) <= fragment_bytes
        ):
            return [self._seal(message, PayloadType.SK, b"", first, text)]
        room = self._room(fragment_bytes - HEADER - _SKF_HEADER)
        if room <= 0:
            raise ValueError(f"fragment_bytes must leave room for at least a byte, not {fragment_bytes!r}")
        total = -(-len(text) // room)
        return [
            self._seal(
                message,
                PayloadType.SKF,
                number.to_bytes(2) + total.to_bytes(2),
                first if number == 1 else 0,
                text[(number - 1) * room : number * room],
            )
            for number in range(1, total + 1)
        ]

    def _verify(self, datagram: bytes) -> tuple[Header, int, int, bytes]:
        """Header, fragment number and total (0 of 0: whole), and the text inside."""
        try:
            header = Header.parse(datagram)
        except PeerError as error:
            raise NotAuthentic(str(error)) from None
        own = _HEADERS.get(header.first_payload)
        if own is None or header.initiator == self._initiator:
            raise NotAuthentic("no protected message of the peer's")
        start = HEADER + own
        body = start + self._iv_bytes
        sealed = len(datagram) - body - self._icv_bytes
        if sealed < 1 or sealed % self._block or int.from_bytes(datagram[30:32]) != len(datagram) - HEADER:
            raise NotAuthentic("lengths do not add up")
        number = total = 0
        if own == _SKF_HEADER:
            number, total = int.from_bytes(datagram[32:34]), int.from_bytes(datagram[34:36])
            if not 1 <= number <= total <= self.limits.fragments:
                raise NotAuthentic(f"fragment {number} of {total}, where {self.limits.fragments} are allowed")
        text = self._receiver.open(datagram[:start], b"", datagram[start:body], datagram[body:])
        if text is None:
            raise NotAuthentic("ICV is wrong")
        if text[-1] >= len(text):
            raise InvalidSyntax(f"{text[-1]} bytes of padding in {counted(len(text), 'byte')} of text")
        return header, number, total, text[: len(text) - 1 - text[-1]]

    def authentic(self, datagram: bytes) -> int:
        """Number of the authentic fragment in ``datagram``, 1 for a whole message; nothing is kept. For
        requests that come again: only fragment 1 makes one send the response again (RFC 7383 2.6.1). Raises
        NotAuthentic.
        """
        try:
            return self._verify(datagram)[1] or 1
        except InvalidSyntax as error:
            raise NotAuthentic(str(error)) from None

    def open(self, datagram: bytes) -> Message | None:
        """The message inside, with ``covered`` set; None: a fragment, kept, of a message that is not
        complete.

        Raises
        ------
        NotAuthentic
            To be dropped in silence; nothing is kept of it.
        InvalidSyntax, UnsupportedCriticalPayload
            Its authentic contents are wrong: to be answered, protected.
        """
        datagram = bytes(datagram)
        header, number, total, text = self._verify(datagram)
        head = datagram[:16] + bytes([PayloadType.SK]) + datagram[17:24] + datagram[28:30]
        if total:
            partial = self._keep(header, number, total, text, head)
            if len(partial.parts) < partial.total:
                return None
            self._partial = None
            head, text = partial.first, b"".join(partial.parts[each] for each in range(1, total + 1))
        return Message.of(header, parse_chain(head[-2], text), _covered(head, text))

    def _keep(self, header: Header, number: int, total: int, text: bytes, head: bytes) -> _Partial:
        """RFC 7383 2.6: the one message that is being put together."""
        partial = self._partial
        if partial is None or not partial.belongs(header) or partial.total < total:
            partial = _Partial(header, total)  # newer, or sent anew in smaller fragments
        if partial.total > total or number in partial.parts:
            raise NotAuthentic(f"fragment {number} of {total} came before")
        if sum(map(len, partial.parts.values())) + len(text) > self.limits.bytes:
            self._partial = None
            raise NotAuthentic(f"fragments of more than {self.limits.bytes} bytes")
        self._partial = partial
        partial.parts[number] = text
        if number == 1:
            partial.first = head
        return partial

    def forget_fragments(self) -> None:
        """Drops what reassembly holds, where nothing is opened any more."""
        self._partial = None


def _covered(head: bytes, text: bytes) -> bytes:
    """A | P of RFC 9242 3.3.2: lengths as if there were neither IV, padding nor ICV, nor fragments.
    ``head``: IKE header without its length, then the first two bytes of SK.
    """
    length = GENERIC_HEADER + len(text)
    return head[:24] + (HEADER + length).to_bytes(4) + head[24:] + length.to_bytes(2) + text


def int_auth_octets(message: Message) -> bytes:
    """A | P of an IKE_INTERMEDIATE message (RFC 9242 3.3.2), sent or opened: what its IntAuth covers."""
    if message.covered:
        return message.covered
    first, text = pack_chain(message.payloads)
    return _covered(message.header(PayloadType.SK).pack(0)[:24] + bytes([first, 0]), text)
