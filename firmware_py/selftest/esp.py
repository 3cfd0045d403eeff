# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""ESP as a DFE makes it from the rows of a table, whatever stands there.

A march over memory wants each bit of a row as 0 and as 1. No key has a midstate, or a hash subkey, that is
the complement of another key's, so no library of cryptography takes what such a march writes. Known answers
(:mod:`spigate.firmware_py.selftest.answers`) are a library's.
"""

import struct
from dataclasses import dataclass

from cryptography.hazmat.primitives.ciphers import Cipher as Crypt
from cryptography.hazmat.primitives.ciphers import algorithms, modes

from spigate.firmware_py.tables.interface import AES_KEYS
from spigate.firmware_py.tables.midstate import BLOCK_BYTES, sha1_block, sha256_block
from spigate.hdl.contract.enums import Auth, Cipher, KeySize

KEY_BYTES = {code: size for size, code in AES_KEYS.items()}
_BLOCKS = {Auth.HMAC_SHA1_96: (sha1_block, 5, 12), Auth.HMAC_SHA256_128: (sha256_block, 8, 16)}
_GCM_POLYNOMIAL = 0xE1 << 120
"""x^128 + x^7 + x^2 + x + 1 in GCM's order of bits (NIST SP 800-38D 6.3)."""


@dataclass(frozen=True)
class RawKeys:
    """Algorithms of an SA, and its rows of keys as bytes.

    Members
    -------
    key : bytes
        Rows ``key_low`` and ``key_high``, 32 bytes, of which ``key_size`` says how many count.
    auth_rows : bytes
        Rows ``auth_0`` to ``auth_3``, 64 bytes.
    salt : bytes
        4 bytes, for GCM.
    """

    cipher: Cipher
    key_size: KeySize
    auth: Auth
    key: bytes
    auth_rows: bytes
    salt: bytes = bytes(4)

    @property
    def block(self) -> int:
        """Bytes of which text is a multiple."""
        return 16 if self.cipher == Cipher.AES_CBC else 4

    def seal(self, spi: int, number: int, payload: bytes, next_header: int) -> bytes:
        """An ESP packet from its header on (RFC 4303 2), with the IV that a DFE gives it."""
        padding = -(len(payload) + 2) % self.block
        text = payload + bytes(range(1, padding + 1)) + bytes([padding, next_header])
        header = struct.pack(">II", spi, number)
        if self.cipher == Cipher.AES_GCM:
            return header + self._gcm(header, number.to_bytes(8), text)
        iv = b""
        if self.cipher == Cipher.AES_CBC:
            iv = self._aes(struct.pack(">IIQ", spi, 0, number))
            encryptor = Crypt(algorithms.AES(self._aes_key), modes.CBC(iv)).encryptor()
            text = encryptor.update(text) + encryptor.finalize()
        return header + iv + text + self._hmac(header + iv + text)

    @property
    def _aes_key(self) -> bytes:
        return self.key[: KEY_BYTES[self.key_size]]

    def _aes(self, blocks: bytes) -> bytes:
        encryptor = Crypt(algorithms.AES(self._aes_key), modes.ECB()).encryptor()
        return encryptor.update(blocks) + encryptor.finalize()

    def _gcm(self, header: bytes, iv: bytes, text: bytes) -> bytes:
        """IV, cipher text and ICV (RFC 4106 3, NIST SP 800-38D 7.1)."""
        count = -(-len(text) // 16)
        nonce = self.salt + iv
        stream = self._aes(b"".join(nonce + at.to_bytes(4) for at in range(1, count + 2)))
        sealed = bytes(a ^ b for a, b in zip(text, stream[16:], strict=False))
        lengths = struct.pack(">QQ", 8 * len(header), 8 * len(sealed))
        digest = ghash(self.auth_rows[:16], _whole(header) + _whole(sealed) + lengths)
        return iv + sealed + bytes(a ^ b for a, b in zip(digest, stream[:16], strict=True))

    def _hmac(self, covered: bytes) -> bytes:
        """HMAC from its midstates (RFC 2104), cut to the ICV."""
        compress, words, icv = _BLOCKS[self.auth]

        def run(state: bytes, data: bytes) -> bytes:
            now = list(struct.unpack(f">{words}I", state[: 4 * words]))
            end = struct.pack(">Q", 8 * (BLOCK_BYTES + len(data)))
            data += b"\x80" + bytes(-(len(data) + 9) % BLOCK_BYTES) + end
            for at in range(0, len(data), BLOCK_BYTES):
                now = compress(now, data[at : at + BLOCK_BYTES])
            return struct.pack(f">{words}I", *now)

        return run(self.auth_rows[32:], run(self.auth_rows[:32], covered))[:icv]


def _whole(data: bytes) -> bytes:
    return data + bytes(-len(data) % 16)


def ghash(subkey: bytes, data: bytes) -> bytes:
    """GHASH of whole blocks (NIST SP 800-38D 6.4)."""
    table, power = [], int.from_bytes(subkey)
    for _ in range(128):
        table.append(power)
        power = power >> 1 ^ (_GCM_POLYNOMIAL if power & 1 else 0)
    value = 0
    for at in range(0, len(data), 16):
        block, value = value ^ int.from_bytes(data[at : at + 16]), 0
        while block:
            top = block.bit_length() - 1
            value ^= table[127 - top]
            block ^= 1 << top
    return value.to_bytes(16)
