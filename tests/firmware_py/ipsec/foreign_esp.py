# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""ESP (RFC 4303) as its RFCs have it, on ``cryptography`` alone: nothing of the project's ESP, with which
it is compared.

AES-GCM (RFC 4106), and AES-CBC (RFC 3602) with HMAC-SHA-256-128 (RFC 4868); no extended sequence numbers.
"""

import hmac

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher as Crypt
from cryptography.hazmat.primitives.ciphers import algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from spigate.firmware_py.ipsec.sa import Cipher, Sa

ICV = 16


def sealed(sa: Sa, number: int, payload: bytes, next_header: int) -> bytes:
    """What stands behind the IP header."""
    gcm = sa.cipher == Cipher.AES_GCM
    padding = bytes(range(1, 1 + -(len(payload) + 2) % (4 if gcm else 16)))
    text = payload + padding + bytes([len(padding), next_header])
    header = sa.spi.to_bytes(4) + number.to_bytes(4)
    if gcm:
        iv = number.to_bytes(8)
        return header + iv + AESGCM(sa.key).encrypt(sa.salt + iv, text, header)
    iv = (0xA5A5 + number).to_bytes(16)
    encryptor = Crypt(algorithms.AES(sa.key), modes.CBC(iv)).encryptor()
    signed = header + iv + encryptor.update(text) + encryptor.finalize()
    return signed + _icv(sa, signed)


def opened(sa: Sa, body: bytes) -> tuple[bytes, int]:
    """Payload and next header of what stands behind the IP header. AssertionError: it is not authentic, or
    its padding is wrong.
    """
    header = body[:8]
    if sa.cipher == Cipher.AES_GCM:
        try:
            text = AESGCM(sa.key).decrypt(sa.salt + body[8:16], body[16:], header)
        except InvalidTag as error:
            raise AssertionError("wrong ICV") from error
    else:
        assert hmac.compare_digest(_icv(sa, body[:-ICV]), body[-ICV:]), "wrong ICV"
        decryptor = Crypt(algorithms.AES(sa.key), modes.CBC(body[8:24])).decryptor()
        text = decryptor.update(body[24:-ICV]) + decryptor.finalize()
    length = text[-2]
    payload = text[: -2 - length]
    assert text[len(payload) : -2] == bytes(range(1, length + 1)), "wrong padding"
    return payload, text[-1]


def _icv(sa: Sa, signed: bytes) -> bytes:
    return hmac.digest(sa.auth_key, signed, "sha256")[:ICV]
