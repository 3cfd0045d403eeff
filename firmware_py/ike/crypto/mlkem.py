# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""ML-KEM-512 (FIPS 203), which ``cryptography`` does not have; the other sizes come from there.

The classes have the interface of ``cryptography``'s. Plain Python is not constant in time: that is bearable
for IKE, which uses a key for one decapsulation and forgets it, and for nothing that keeps one.
"""

import hashlib
import hmac
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

Q, N = 3329, 256
Poly = list[int]


@dataclass(frozen=True)
class Parameters:
    """FIPS 203 8, table 2; eta2 is 2 in all of them."""

    k: int
    eta1: int
    du: int
    dv: int


ML_KEM_512 = Parameters(2, 3, 10, 4)


def _zeta(exponent: int) -> int:
    return pow(17, exponent, Q)


_REVERSED = [int(f"{each:07b}"[::-1], 2) for each in range(128)]
_ZETAS = [_zeta(each) for each in _REVERSED]
_GAMMAS = [_zeta(2 * each + 1) for each in _REVERSED]


def _ntt(poly: Poly) -> Poly:
    """Algorithm 9."""
    f, index, length = list(poly), 1, 128
    while length >= 2:
        for start in range(0, N, 2 * length):
            zeta = _ZETAS[index]
            index += 1
            for at in range(start, start + length):
                product = zeta * f[at + length] % Q
                f[at + length] = (f[at] - product) % Q
                f[at] = (f[at] + product) % Q
        length //= 2
    return f


def _inverse_ntt(poly: Poly) -> Poly:
    """Algorithm 10."""
    f, index, length = list(poly), 127, 2
    while length <= 128:
        for start in range(0, N, 2 * length):
            zeta = _ZETAS[index]
            index -= 1
            for at in range(start, start + length):
                low, high = f[at], f[at + length]
                f[at] = (low + high) % Q
                f[at + length] = zeta * (high - low) % Q
        length *= 2
    return [3303 * each % Q for each in f]


def _dot(left: Sequence[Poly], right: Sequence[Poly]) -> Poly:
    """The sum of products in the NTT domain (algorithms 11 and 12)."""
    total = [0] * N
    for a, b in zip(left, right, strict=True):
        for half, gamma in enumerate(_GAMMAS):
            at = 2 * half
            total[at] += a[at] * b[at] + a[at + 1] * b[at + 1] % Q * gamma
            total[at + 1] += a[at] * b[at + 1] + a[at + 1] * b[at]
    return [each % Q for each in total]


def _add(*polys: Poly) -> Poly:
    return [sum(each) % Q for each in zip(*polys, strict=True)]


def _encode(poly: Poly, bits: int) -> bytes:
    """Algorithm 5."""
    return int("".join(f"{each:0{bits}b}" for each in reversed(poly)), 2).to_bytes(32 * bits, "little")


def _decode(data: bytes, bits: int) -> list[Poly]:
    """Algorithm 6, for as many polynomials as there are."""

    def one(part: bytes) -> Poly:
        number = int.from_bytes(part, "little")
        return [number >> bits * each & (1 << bits) - 1 for each in range(N)]

    return [one(data[at : at + 32 * bits]) for at in range(0, len(data), 32 * bits)]


def _compress(poly: Poly, bits: int) -> Poly:
    return [((each << bits) + Q // 2) // Q & (1 << bits) - 1 for each in poly]


def _decompress(poly: Poly, bits: int) -> Poly:
    return [each * Q + (1 << bits - 1) >> bits for each in poly]


def _uniform(seed: bytes) -> Poly:
    """Algorithm 7."""
    length = 672
    found: list[int] = []
    while len(found) < N:
        stream = hashlib.shake_128(seed).digest(length)
        pairs = (int.from_bytes(stream[at : at + 3], "little") for at in range(0, length, 3))
        found = [value for pair in pairs for value in (pair & 0xFFF, pair >> 12) if value < Q]
        length *= 2
    return found[:N]


def _noise(seed: bytes, number: int, eta: int) -> Poly:
    """Algorithm 8, of PRF_eta."""
    stream = int.from_bytes(hashlib.shake_256(seed + bytes([number])).digest(64 * eta), "little")
    mask = (1 << eta) - 1
    return [
        ((stream >> 2 * eta * each & mask).bit_count() - (stream >> 2 * eta * each + eta & mask).bit_count())
        % Q
        for each in range(N)
    ]


def _matrix(rho: bytes, k: int) -> tuple[tuple[Poly, ...], ...]:
    return tuple(tuple(_uniform(rho + bytes([column, row])) for column in range(k)) for row in range(k))


def _g(data: bytes) -> tuple[bytes, bytes]:
    digest = hashlib.sha3_512(data).digest()
    return digest[:32], digest[32:]


@dataclass(frozen=True)
class PublicKey:
    """An encapsulation key. ``raw`` is what goes over the wire."""

    raw: bytes
    parameters: Parameters = ML_KEM_512

    @classmethod
    def from_public_bytes(cls, data: bytes, parameters: Parameters = ML_KEM_512) -> Self:
        """Raises ValueError where FIPS 203 7.2 wants the key to be refused: wrong length, a coefficient
        beyond q.
        """
        right = len(data) == 384 * parameters.k + 32
        if not right or any(value >= Q for poly in _decode(data[:-32], 12) for value in poly):
            raise ValueError("no encapsulation key")
        return cls(data, parameters)

    def public_bytes_raw(self) -> bytes:
        return self.raw

    def encapsulate(self, message: bytes | None = None) -> tuple[bytes, bytes]:
        """A shared secret and its ciphertext (algorithm 20). ``message``: 32 random bytes, given for
        vectors only.
        """
        message = os.urandom(32) if message is None else message
        secret, coins = _g(message + hashlib.sha3_256(self.raw).digest())
        return secret, self.encrypt(message, coins)

    def encrypt(self, message: bytes, coins: bytes) -> bytes:
        """Algorithm 14."""
        p = self.parameters
        t, rho = _decode(self.raw[:-32], 12), self.raw[-32:]
        y = [_ntt(_noise(coins, each, p.eta1)) for each in range(p.k)]
        u = [
            _add(_inverse_ntt(_dot(column, y)), _noise(coins, p.k + number, 2))
            for number, column in enumerate(zip(*_matrix(rho, p.k), strict=True))
        ]
        v = _add(_inverse_ntt(_dot(t, y)), _noise(coins, 2 * p.k, 2), _decompress(_decode(message, 1)[0], 1))
        return b"".join(_encode(_compress(each, p.du), p.du) for each in u) + _encode(
            _compress(v, p.dv), p.dv
        )


@dataclass(frozen=True)
class PrivateKey:
    """A decapsulation key; nothing of it in its repr."""

    secret: tuple[Poly, ...] = field(repr=False)
    public: PublicKey
    rejection: bytes = field(repr=False)

    @classmethod
    def generate(cls) -> Self:
        return cls.from_seed_bytes(os.urandom(64))

    @classmethod
    def from_seed_bytes(cls, seed: bytes, parameters: Parameters = ML_KEM_512) -> Self:
        """Algorithms 13 and 16, from d and z of 32 bytes each."""
        k = parameters.k
        rho, sigma = _g(seed[:32] + bytes([k]))
        s = [_ntt(_noise(sigma, each, parameters.eta1)) for each in range(k)]
        e = [_ntt(_noise(sigma, k + each, parameters.eta1)) for each in range(k)]
        t = [_add(_dot(row, s), each) for row, each in zip(_matrix(rho, k), e, strict=True)]
        raw = b"".join(_encode(each, 12) for each in t) + rho
        return cls(tuple(s), PublicKey(raw, parameters), seed[32:])

    def public_key(self) -> PublicKey:
        return self.public

    def decapsulate(self, ciphertext: bytes) -> bytes:
        """The shared secret (algorithm 21); of a ciphertext that is wrong, another one, and no error."""
        p = self.public.parameters
        split = 32 * p.du * p.k
        u = [_ntt(_decompress(each, p.du)) for each in _decode(ciphertext[:split], p.du)]
        v = _decompress(_decode(ciphertext[split:], p.dv)[0], p.dv)
        w = [(a - b) % Q for a, b in zip(v, _inverse_ntt(_dot(self.secret, u)), strict=True)]
        message = _encode(_compress(w, 1), 1)
        secret, coins = _g(message + hashlib.sha3_256(self.public.raw).digest())
        rejected = hashlib.shake_256(self.rejection + ciphertext).digest(32)
        return secret if hmac.compare_digest(ciphertext, self.public.encrypt(message, coins)) else rejected
