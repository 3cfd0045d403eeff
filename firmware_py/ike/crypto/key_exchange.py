# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Key exchange methods: MODP (RFC 3526), ECP (RFC 5903), Curve25519 (RFC 8031), ML-KEM (its IKEv2 draft;
FIPS 203).

One interface for Diffie-Hellman and KEM: the initiator's :func:`start` gives a public value to send and a
state that
:meth:`Initiating.finish` turns into the secret; the responder's :func:`respond` does all at once. Every
value of a
peer's is checked as RFC 6989, RFC 8031 and FIPS 203 7.2 want it.
"""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Protocol

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, mlkem, x25519
from cryptography.utils import CryptographyDeprecationWarning

from spigate.firmware_py.errors import UnsupportedError
from spigate.firmware_py.ike.crypto import mlkem as own_mlkem
from spigate.firmware_py.ike.wire.errors import InvalidSyntax
from spigate.firmware_py.ike.wire.registry import Ke, label
from spigate.firmware_py.words import counted

with warnings.catch_warnings():  # finite fields are old, and still what many peers speak
    warnings.simplefilter("ignore", CryptographyDeprecationWarning)
    from cryptography.hazmat.primitives.asymmetric.dh import DHParameterNumbers, DHPublicNumbers

_MODP = {Ke.MODP_2048: (2048, 124476), Ke.MODP_3072: (3072, 1690314), Ke.MODP_4096: (4096, 240904)}
_CURVES = {Ke.ECP_256: ec.SECP256R1(), Ke.ECP_384: ec.SECP384R1(), Ke.ECP_521: ec.SECP521R1()}


class _Encapsulating(Protocol):
    """A KEM's public key."""

    def public_bytes_raw(self) -> bytes: ...

    def encapsulate(self) -> tuple[bytes, bytes]: ...


class _Decapsulating(Protocol):
    """A KEM's private key."""

    def public_key(self) -> _Encapsulating: ...

    def decapsulate(self, ciphertext: bytes, /) -> bytes: ...


@dataclass(frozen=True)
class _Scheme:
    """A KEM: how keys are made and read, and the bytes of a public key and of a ciphertext."""

    generate: Callable[[], _Decapsulating]
    read: Callable[[bytes], _Encapsulating]
    public_bytes: int
    ciphertext_bytes: int


_KEMS = {
    Ke.ML_KEM_512: _Scheme(own_mlkem.PrivateKey.generate, own_mlkem.PublicKey.from_public_bytes, 800, 768),
    Ke.ML_KEM_768: _Scheme(
        mlkem.MLKEM768PrivateKey.generate, mlkem.MLKEM768PublicKey.from_public_bytes, 1184, 1088
    ),
    Ke.ML_KEM_1024: _Scheme(
        mlkem.MLKEM1024PrivateKey.generate, mlkem.MLKEM1024PublicKey.from_public_bytes, 1568, 1568
    ),
}


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


def _need_length(group: Ke, value: bytes, length: int) -> None:
    if len(value) != length:
        raise InvalidSyntax(
            f"public value of {counted(len(value), 'byte')} for {group.name}, where {length} are expected"
        )


def _pi(bits: int) -> int:
    """pi * 2^bits, rounded down, by Machin's formula."""
    guard = 32

    def arctan(inverse: int) -> int:
        term = total = (1 << bits + guard) // inverse
        divisor, sign = 1, 1
        while term:
            term //= inverse * inverse
            divisor, sign = divisor + 2, -sign
            total += sign * (term // divisor)
        return total

    return 4 * (4 * arctan(5) - arctan(239)) >> guard


@cache
def modp_prime(group: Ke) -> int:
    """The prime, made as RFC 3526 defines it."""
    bits, addend = _MODP[group]
    return (1 << bits) - (1 << bits - 64) - 1 + ((_pi(bits - 130) + addend) << 64)


@cache
def _numbers(group: Ke) -> DHParameterNumbers:
    return DHParameterNumbers(modp_prime(group), 2)


class _Modp(Initiating):
    def __init__(self, group: Ke):
        self.group, self._bytes = group, _MODP[group][0] // 8
        self._key = _numbers(group).parameters().generate_private_key()
        self.public = self._key.public_key().public_numbers().y.to_bytes(self._bytes)

    def finish(self, peer_public: bytes) -> bytes:
        _need_length(self.group, peer_public, self._bytes)
        value = int.from_bytes(peer_public)
        if not 1 < value < modp_prime(self.group) - 1:
            raise InvalidSyntax(f"public value for {self.group.name} is not between 2 and p - 2")
        peer = DHPublicNumbers(value, _numbers(self.group)).public_key()
        return self._key.exchange(peer).rjust(self._bytes, b"\0")


class _Ecp(Initiating):
    def __init__(self, group: Ke):
        self.group = group
        self._key = ec.generate_private_key(_CURVES[group])
        numbers, size = self._key.public_key().public_numbers(), self._coordinate
        self.public = numbers.x.to_bytes(size) + numbers.y.to_bytes(size)

    @property
    def _coordinate(self) -> int:
        return (self._key.curve.key_size + 7) // 8

    def finish(self, peer_public: bytes) -> bytes:
        _need_length(self.group, peer_public, 2 * self._coordinate)
        try:
            peer = ec.EllipticCurvePublicKey.from_encoded_point(self._key.curve, b"\4" + peer_public)
        except ValueError:
            raise InvalidSyntax(f"public value for {self.group.name} is no point of the curve") from None
        return self._key.exchange(ec.ECDH(), peer)


class _Curve25519(Initiating):
    def __init__(self, group: Ke):
        self.group = group
        self._key = x25519.X25519PrivateKey.generate()
        self.public = self._key.public_key().public_bytes_raw()

    def finish(self, peer_public: bytes) -> bytes:
        _need_length(self.group, peer_public, 32)
        try:
            return self._key.exchange(x25519.X25519PublicKey.from_public_bytes(peer_public))
        except ValueError:
            raise InvalidSyntax(f"public value for {self.group.name} is of low order") from None


class _Kem(Initiating):
    def __init__(self, group: Ke):
        self.group = group
        self._key = _KEMS[group].generate()
        self.public = self._key.public_key().public_bytes_raw()

    def finish(self, peer_public: bytes) -> bytes:
        _need_length(self.group, peer_public, _KEMS[self.group].ciphertext_bytes)
        return self._key.decapsulate(peer_public)


def _encapsulate(group: Ke, peer_public: bytes) -> Responded:
    scheme = _KEMS[group]
    _need_length(group, peer_public, scheme.public_bytes)
    try:
        secret, ciphertext = scheme.read(peer_public).encapsulate()
    except ValueError:
        raise InvalidSyntax(f"public value for {group.name} is no encapsulation key") from None
    return Responded(group, ciphertext, secret)


_METHODS: dict[Ke, Callable[[Ke], Initiating]] = {
    **dict.fromkeys(_MODP, _Modp),
    **dict.fromkeys(_CURVES, _Ecp),
    Ke.CURVE25519: _Curve25519,
    **dict.fromkeys(_KEMS, _Kem),
}


@cache
def supported() -> frozenset[Ke]:
    """The methods that can be done; ML-KEM-768 and -1024 only where the OpenSSL of `cryptography`
    has them.
    """
    try:
        _Kem(Ke.ML_KEM_768)
    except UnsupportedAlgorithm:
        return frozenset(_METHODS) - {Ke.ML_KEM_768, Ke.ML_KEM_1024}
    return frozenset(_METHODS)


def _supported(group: int) -> Ke:
    """The method of that number. Raises UnsupportedError."""
    if group not in supported():
        raise UnsupportedError(f"key exchange method {label(Ke, group)} is not supported")
    return Ke(group)


def start(group: int) -> Initiating:
    """Raises UnsupportedError for a method that is not in :func:`supported`."""
    method = _supported(group)
    return _METHODS[method](method)


def respond(group: int, peer_public: bytes) -> Responded:
    """Raises UnsupportedError as :func:`start`, InvalidSyntax as :meth:`Initiating.finish`."""
    method = _supported(group)
    if method in _KEMS:
        return _encapsulate(method, peer_public)
    own = start(method)
    return Responded(own.group, own.public, own.finish(peer_public))
