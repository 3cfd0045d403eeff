"""Key exchange methods: MODP (RFC 3526), ECP (RFC 5903), Curve25519 (RFC 8031), ML-KEM (its IKEv2 draft; FIPS 203).

One interface for Diffie-Hellman and KEM: the initiator's :func:`start` gives a public value to send and a state that
:meth:`Initiating.finish` turns into the secret; the responder's :func:`respond` does all at once.
"""
from abc import ABC, abstractmethod
from dataclasses import dataclass, field

from spigate.firmware_py.ike.registry import Ke


class Initiating(ABC):
    """An initiator's half of an exchange. ``group`` and ``public`` go into the KE payload."""

    group: Ke
    public: bytes

    @abstractmethod
    def finish(self, peer_public: bytes) -> bytes:
        """The shared secret, of the length that the RFC gives it.

        Raises
        ------
        InvalidSyntax
            The peer's value is not one of this method (length, range, not on the curve, low order).
        """


@dataclass(frozen=True)
class Responded:
    """A responder's whole exchange. ``secret`` never in its repr."""

    group: Ke
    public: bytes
    secret: bytes = field(repr=False)


def supported() -> frozenset[Ke]:
    """The methods that this installation can do; ML-KEM-512 only where `cryptography` has it."""
    raise NotImplementedError


def start(group: int) -> Initiating:
    """Raises UnsupportedError for a method that is not in :func:`supported`."""
    raise NotImplementedError


def respond(group: int, peer_public: bytes) -> Responded:
    """Raises UnsupportedError as :func:`start`, InvalidSyntax as :meth:`Initiating.finish`."""
    raise NotImplementedError
