"""The protected message: SK (RFC 7296 3.14) and SKF (RFC 7383), sealed and opened."""
from dataclasses import dataclass

from spigate.firmware_py.ike.keys import IkeKeys
from spigate.firmware_py.ike.message import Message
from spigate.firmware_py.ike.proposals import Suite


@dataclass(frozen=True)
class Limits:
    """What reassembly may hold at once, per :class:`Protection`: one message, of so many fragments and bytes."""

    fragments: int = 64
    bytes: int = 0xFFFF


class Protection:
    """Both directions of one IKE SA's keys.

    Parameters
    ----------
    suite : Suite
    keys : IkeKeys
    initiator : bool
        This side is the original initiator.
    limits : Limits

    After RFC 9370's key update make a new one; the old one still opens what was sent before. An explicit IV never
    comes twice from one instance, so never make two that send with the same keys.
    """

    def __init__(self, suite: Suite, keys: IkeKeys, *, initiator: bool, limits: Limits = Limits()):  # noqa: B008
        raise NotImplementedError

    def seal(self, message: Message, fragment_bytes: int | None = None) -> list[bytes]:
        """Datagrams of a message whose payloads are the ones to hide.

        ``fragment_bytes``: largest datagram (IKE header to ICV); a longer message leaves as SKF fragments. None: never
        in fragments. The result is what to send and to send again: never seal a message twice.
        """
        raise NotImplementedError

    def open(self, datagram: bytes) -> Message | None:
        """The message inside, with ``covered`` set; None: a fragment, kept, of a message that is not complete.

        Raises
        ------
        NotAuthentic
            To be dropped in silence; nothing is kept of it.
        InvalidSyntax, UnsupportedCriticalPayload
            Its authentic contents are wrong: to be answered, protected.
        """
        raise NotImplementedError

    def authentic(self, datagram: bytes) -> int:
        """Number of the authentic fragment in ``datagram``, 1 for a whole message; nothing is kept. For requests that
        come again: only fragment 1 makes one send the response again (RFC 7383 2.6.1). Raises NotAuthentic."""
        raise NotImplementedError

    def forget_fragments(self) -> None:
        """Drops what reassembly holds; for a timer of the caller's."""
        raise NotImplementedError


def int_auth_octets(message: Message) -> bytes:
    """A | P of an IKE_INTERMEDIATE message (RFC 9242 3.3.2), sent or opened: what its IntAuth covers."""
    raise NotImplementedError
