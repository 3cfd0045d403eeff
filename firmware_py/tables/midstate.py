# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""HMAC midstates: what SHA-1 and SHA-256 know after the key's block (RFC 2104 4).

A gateway that keeps them per SA needs no key any more and saves two blocks a packet. No crypto library
hands them out, so the compression functions of FIPS 180-4 are here, for the one block a key makes.
"""

import hashlib
import struct
from collections.abc import Callable

from spigate.hdl.contract.sha import SHA1_K, SHA256_K

BLOCK_BYTES = 64
# FIPS 180-4 5.3.1, 5.3.3
SHA1_INITIAL = [0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0]
SHA256_INITIAL = [
    0x6A09E667,
    0xBB67AE85,
    0x3C6EF372,
    0xA54FF53A,
    0x510E527F,
    0x9B05688C,
    0x1F83D9AB,
    0x5BE0CD19,
]
_MASK = 0xFFFFFFFF


def _left(word: int, by: int) -> int:
    return (word << by | word >> 32 - by) & _MASK


def _right(word: int, by: int) -> int:
    return _left(word, 32 - by)


def sha1_block(state: list[int], block: bytes) -> list[int]:
    """The state after ``block`` (FIPS 180-4 6.1.2)."""
    w = list(struct.unpack(">16I", block))
    for t in range(16, 80):
        w.append(_left(w[t - 3] ^ w[t - 8] ^ w[t - 14] ^ w[t - 16], 1))
    a, b, c, d, e = state
    for t in range(80):
        mixed = [b & c ^ ~b & d, b ^ c ^ d, b & c ^ b & d ^ c & d, b ^ c ^ d][t // 20]
        a, b, c, d, e = _left(a, 5) + mixed + e + SHA1_K[t // 20] + w[t] & _MASK, a, _left(b, 30), c, d
    return [before + after & _MASK for before, after in zip(state, (a, b, c, d, e), strict=True)]


def sha256_block(state: list[int], block: bytes) -> list[int]:
    """The state after ``block`` (FIPS 180-4 6.2.2)."""
    w = list(struct.unpack(">16I", block))
    for t in range(16, 64):
        s0 = _right(w[t - 15], 7) ^ _right(w[t - 15], 18) ^ w[t - 15] >> 3
        s1 = _right(w[t - 2], 17) ^ _right(w[t - 2], 19) ^ w[t - 2] >> 10
        w.append(s1 + w[t - 7] + s0 + w[t - 16] & _MASK)
    a, b, c, d, e, f, g, h = state
    for t in range(64):
        t1 = h + (_right(e, 6) ^ _right(e, 11) ^ _right(e, 25)) + (e & f ^ ~e & g) + SHA256_K[t] + w[t]
        t2 = (_right(a, 2) ^ _right(a, 13) ^ _right(a, 22)) + (a & b ^ a & c ^ b & c)
        a, b, c, d, e, f, g, h = t1 + t2 & _MASK, a, b, c, d + t1 & _MASK, e, f, g
    return [before + after & _MASK for before, after in zip(state, (a, b, c, d, e, f, g, h), strict=True)]


_HASHES: dict[str, tuple[Callable[[list[int], bytes], list[int]], list[int]]] = {
    "sha1": (sha1_block, SHA1_INITIAL),
    "sha256": (sha256_block, SHA256_INITIAL),
}


def hmac_midstates(algorithm: str, key: bytes) -> tuple[bytes, bytes]:
    """The hash's state after the key's inner and after its outer block (RFC 2104 2).

    Parameters
    ----------
    algorithm : str
        ``"sha1"`` or ``"sha256"``.
    key : bytes
        Of any length; one longer than a block is hashed first, as HMAC wants it.

    Returns
    -------
    inner, outer : bytes
        20 bytes each for SHA-1, 32 for SHA-256: the state's words, big-endian.
    """
    if algorithm not in _HASHES:
        raise ValueError(f"algorithm must be one of {sorted(_HASHES)}, not {algorithm!r}")
    compress, initial = _HASHES[algorithm]
    if len(key) > BLOCK_BYTES:
        key = hashlib.new(algorithm, key).digest()
    key = key.ljust(BLOCK_BYTES, b"\0")
    inner, outer = (
        struct.pack(f">{len(initial)}I", *compress(initial, bytes(byte ^ pad for byte in key)))
        for pad in (0x36, 0x5C)
    )
    return inner, outer
