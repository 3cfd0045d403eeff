# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Keys: prf, prf+, SKEYSEED, SK_*, KEYMAT (RFC 7296 2.13 to 2.18, RFC 9370 2.2). Secrets never in reprs."""

import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field

from spigate.firmware_py.ike.crypto.proposals import Suite
from spigate.firmware_py.ike.wire.registry import Prf
from spigate.firmware_py.ipsec.sa import AUTHS, CIPHERS, Auth

_HASHES = {
    Prf.HMAC_SHA1: ("sha1", 20),
    Prf.HMAC_SHA2_256: ("sha256", 32),
    Prf.HMAC_SHA2_384: ("sha384", 48),
    Prf.HMAC_SHA2_512: ("sha512", 64),
}


@dataclass(frozen=True)
class IkeKeys:
    """SK_d, SK_ai, SK_ar, SK_ei, SK_er (with salt behind it, where the cipher wants one), SK_pi, SK_pr."""

    d: bytes = field(repr=False)
    ai: bytes = field(repr=False)
    ar: bytes = field(repr=False)
    ei: bytes = field(repr=False)
    er: bytes = field(repr=False)
    pi: bytes = field(repr=False)
    pr: bytes = field(repr=False)


@dataclass(frozen=True)
class TrafficKeys:
    """Of one direction of a child SA; what :class:`spigate.firmware_py.ipsec.sa.Sa` calls key, salt and
    auth_key.
    """

    key: bytes = field(repr=False)
    salt: bytes = field(repr=False)
    auth_key: bytes = field(repr=False)


@dataclass(frozen=True)
class ChildKeys:
    """``initiator`` protects what the initiator of the exchange that made the child sends."""

    initiator: TrafficKeys
    responder: TrafficKeys


def prf(algorithm: Prf, key: bytes, data: bytes) -> bytes:
    """RFC 7296 2.13, HMAC."""
    return hmac.digest(key, data, _HASHES[algorithm][0])


def prf_bytes(algorithm: Prf) -> int:
    """Length of its output and of its preferred key."""
    return _HASHES[algorithm][1]


def prf_plus(algorithm: Prf, key: bytes, seed: bytes, length: int) -> bytes:
    """RFC 7296 2.13: T1 | T2 | ..., at most 255 of them."""
    if length > 255 * prf_bytes(algorithm):
        raise ValueError(f"length must be at most {255 * prf_bytes(algorithm)}, not {length!r}")
    stream, block, count = b"", b"", 0
    while len(stream) < length:
        count += 1
        block = prf(algorithm, key, block + seed + bytes([count]))
        stream += block
    return stream[:length]


def skeyseed(algorithm: Prf, secret: bytes, ni: bytes, nr: bytes) -> bytes:
    """Of IKE_SA_INIT: prf(Ni | Nr, g^ir)."""
    return prf(algorithm, ni + nr, secret)


def _mixed(secrets: Sequence[bytes], ni: bytes, nr: bytes) -> bytes:
    """secret 0 | Ni | Nr | secret 1 | ...; RFC 9370 2.2.4 appends the additional ones."""
    return b"".join((*secrets[:1], ni, nr, *secrets[1:]))


def skeyseed_rekey(algorithm: Prf, sk_d: bytes, secrets: Sequence[bytes], ni: bytes, nr: bytes) -> bytes:
    """Of a rekeyed IKE SA (2.18, RFC 9370 2.2.4): prf(SK_d(old), secret 0 | Ni | Nr | secret 1 | ...), with
    the old IKE SA's prf and SK_d. ``secrets``: of KE, then of each additional key exchange.
    """
    return prf(algorithm, sk_d, _mixed(secrets, ni, nr))


def skeyseed_update(algorithm: Prf, sk_d: bytes, secret: bytes, ni: bytes, nr: bytes) -> bytes:
    """After an IKE_INTERMEDIATE with an additional key exchange (RFC 9370 2.2.2): prf(SK_d, SK(n) | Ni |
    Nr).
    """
    return prf(algorithm, sk_d, _mixed((secret,), ni, nr))


def _cut(stream: bytes, lengths: Sequence[int]) -> list[bytes]:
    parts, offset = [], 0
    for length in lengths:
        parts.append(stream[offset : offset + length])
        offset += length
    return parts


def _auth_key_bytes(suite: Suite) -> int:
    return AUTHS[suite.auth].key if suite.auth != Auth.NONE else 0


def ike_keys(suite: Suite, seed: bytes, ni: bytes, nr: bytes, spi_i: bytes, spi_r: bytes) -> IkeKeys:
    """prf+(SKEYSEED, Ni | Nr | SPIi | SPIr), cut to the suite's lengths."""
    own = prf_bytes(suite.prf)
    auth, cipher = _auth_key_bytes(suite), suite.key_bits // 8 + CIPHERS[suite.cipher].salt
    lengths = (own, auth, auth, cipher, cipher, own, own)
    return IkeKeys(*_cut(prf_plus(suite.prf, seed, ni + nr + spi_i + spi_r, sum(lengths)), lengths))


def child_keys(
    algorithm: Prf, sk_d: bytes, suite: Suite, ni: bytes, nr: bytes, secrets: Sequence[bytes] = ()
) -> ChildKeys:
    """KEYMAT = prf+(SK_d, secret 0 | Ni | Nr | secret 1 | ...), cut for ``suite`` (2.17, RFC 9370 2.2.4).
    ``algorithm`` is the IKE SA's prf; ``secrets`` is empty where the child had no key exchange of its own.
    """
    lengths = 2 * (suite.key_bits // 8, CIPHERS[suite.cipher].salt, _auth_key_bytes(suite))
    parts = _cut(prf_plus(algorithm, sk_d, _mixed(secrets, ni, nr), sum(lengths)), lengths)
    return ChildKeys(TrafficKeys(*parts[:3]), TrafficKeys(*parts[3:]))
