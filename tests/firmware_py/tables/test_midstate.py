# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

import hashlib
import hmac
import random
import struct

import pytest

from spigate.firmware_py.tables.midstate import (
    SHA1_INITIAL,
    SHA256_INITIAL,
    hmac_midstates,
    sha1_block,
    sha256_block,
)

HASHES = {"sha1": (sha1_block, SHA1_INITIAL), "sha256": (sha256_block, SHA256_INITIAL)}


def finish(algorithm: str, state: bytes, message: bytes, hashed: int) -> bytes:
    """The digest of a message whose first ``hashed`` bytes led to ``state`` and whose rest is ``message``."""
    compress, _ = HASHES[algorithm]
    words = list(struct.unpack(f">{len(state) // 4}I", state))
    padded = (
        message + b"\x80" + bytes(-(len(message) + 9) % 64) + struct.pack(">Q", 8 * (hashed + len(message)))
    )
    for at in range(0, len(padded), 64):
        words = compress(words, padded[at : at + 64])
    return struct.pack(f">{len(words)}I", *words)


@pytest.mark.parametrize("algorithm", HASHES)
def test_compression_makes_the_digests_of_hashlib(algorithm):
    _, initial = HASHES[algorithm]
    for length in range(200):
        message = random.Random(length).randbytes(length)
        digest = finish(algorithm, struct.pack(f">{len(initial)}I", *initial), message, 0)
        assert digest == hashlib.new(algorithm, message).digest()


@pytest.mark.parametrize("algorithm", HASHES)
@pytest.mark.parametrize("key_bytes", [0, 1, 20, 32, 63, 64, 65, 131])
def test_midstates_continue_to_the_hmac_of_the_standard_library(algorithm, key_bytes):
    key = random.Random(key_bytes).randbytes(key_bytes)
    inner, outer = hmac_midstates(algorithm, key)
    message = b"what a packet is made of"
    assert finish(algorithm, outer, finish(algorithm, inner, message, 64), 64) == hmac.digest(
        key, message, algorithm
    )


def test_refuses_other_algorithms():
    with pytest.raises(ValueError, match=r"algorithm must be one of \['sha1', 'sha256'\], not 'md5'"):
        hmac_midstates("md5", b"")
