# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The algorithms of ESP on ``cryptography``: text in, cipher text and ICV out, and back.

A transform knows nothing of packets. ``header`` is SPI and sequence number as they stand in the packet,
``high`` the upper half of an extended sequence number (empty without ESN), ``iv`` what stands between ESP
header and text.
"""

import hmac
from collections.abc import Callable
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher as Crypt
from cryptography.hazmat.primitives.ciphers import algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESCCM, ChaCha20Poly1305

from spigate.firmware_py.errors import UnsupportedError
from spigate.firmware_py.ipsec.sa import AUTHS, Auth, Cipher


class Keyed(Protocol):
    """What a transform reads of an SA, or of what has algorithms and keys as an SA has them."""

    @property
    def cipher(self) -> Cipher: ...
    @property
    def key(self) -> bytes: ...
    @property
    def salt(self) -> bytes: ...
    @property
    def icv_bytes(self) -> int: ...
    @property
    def auth(self) -> Auth: ...
    @property
    def auth_key(self) -> bytes: ...


class Transform(Protocol):
    """Both directions of an SA's algorithms."""

    def seal(self, header: bytes, high: bytes, iv: bytes, text: bytes) -> bytes:
        """Cipher text and ICV."""

    def open(self, header: bytes, high: bytes, iv: bytes, sealed: bytes) -> bytes | None:
        """The text; None where the ICV is wrong."""


class EncryptThenMac:
    """A cipher without authentication, or none, and an HMAC over ESP header, IV, cipher text and the upper
    half of the sequence number (RFC 4303 3.3.2, 2.2.1)."""

    def __init__(self, sa: Keyed):
        self._sa, self._form = sa, AUTHS[sa.auth]

    def _crypt(self, iv: bytes) -> Crypt[modes.CBC] | Crypt[modes.CTR] | None:
        if self._sa.cipher == Cipher.AES_CBC:
            return Crypt(algorithms.AES(self._sa.key), modes.CBC(iv))
        if self._sa.cipher == Cipher.AES_CTR:
            return Crypt(algorithms.AES(self._sa.key), modes.CTR(self._sa.salt + iv + b"\0\0\0\1"))
        return None

    def _mac(self, covered: bytes) -> bytes:
        return hmac.digest(self._sa.auth_key, covered, self._form.hash)[: self._form.icv]

    def seal(self, header: bytes, high: bytes, iv: bytes, text: bytes) -> bytes:
        crypt = self._crypt(iv)
        if crypt:
            encryptor = crypt.encryptor()
            text = encryptor.update(text) + encryptor.finalize()
        return text + self._mac(header + iv + text + high)

    def open(self, header: bytes, high: bytes, iv: bytes, sealed: bytes) -> bytes | None:
        text, icv = sealed[: -self._form.icv], sealed[-self._form.icv :]
        if not hmac.compare_digest(self._mac(header + iv + text + high), icv):
            return None
        crypt = self._crypt(iv)
        if not crypt:
            return text
        decryptor = crypt.decryptor()
        return decryptor.update(text) + decryptor.finalize()


class Gcm:
    """AES-GCM (RFC 4106); as GMAC (RFC 4543) with everything authenticated and nothing encrypted."""

    def __init__(self, sa: Keyed):
        self._key, self._salt, self._icv = sa.key, sa.salt, sa.icv_bytes
        self._only_mac = sa.cipher == Cipher.AES_GMAC

    def _mode(self, iv: bytes, tag: bytes | None = None) -> Crypt[modes.GCM]:
        return Crypt(algorithms.AES(self._key), modes.GCM(self._salt + iv, tag, min_tag_length=self._icv))

    def _associated(self, header: bytes, high: bytes) -> bytes:
        return header[:4] + high + header[4:]

    def seal(self, header: bytes, high: bytes, iv: bytes, text: bytes) -> bytes:
        encryptor = self._mode(iv).encryptor()
        associated = self._associated(header, high)
        if self._only_mac:
            encryptor.authenticate_additional_data(associated + iv + text)
            encryptor.finalize()
            return text + encryptor.tag[: self._icv]
        encryptor.authenticate_additional_data(associated)
        return encryptor.update(text) + encryptor.finalize() + encryptor.tag[: self._icv]

    def open(self, header: bytes, high: bytes, iv: bytes, sealed: bytes) -> bytes | None:
        body, tag = sealed[: -self._icv], sealed[-self._icv :]
        decryptor = self._mode(iv, tag).decryptor()
        associated = self._associated(header, high)
        decryptor.authenticate_additional_data(associated + iv + body if self._only_mac else associated)
        text = body if self._only_mac else decryptor.update(body)
        try:
            decryptor.finalize()
        except InvalidTag:
            return None
        return text


class Aead:
    """AES-CCM (RFC 4309) and ChaCha20-Poly1305 (RFC 7634)."""

    def __init__(self, sa: Keyed):
        self._salt = sa.salt
        self._aead = (
            AESCCM(sa.key, tag_length=sa.icv_bytes)
            if sa.cipher == Cipher.AES_CCM
            else ChaCha20Poly1305(sa.key)
        )

    def seal(self, header: bytes, high: bytes, iv: bytes, text: bytes) -> bytes:
        return self._aead.encrypt(self._salt + iv, text, header[:4] + high + header[4:])

    def open(self, header: bytes, high: bytes, iv: bytes, sealed: bytes) -> bytes | None:
        try:
            return self._aead.decrypt(self._salt + iv, sealed, header[:4] + high + header[4:])
        except InvalidTag:
            return None


_TRANSFORMS: dict[Cipher, Callable[[Keyed], Transform]] = {
    Cipher.NULL: EncryptThenMac,
    Cipher.AES_CBC: EncryptThenMac,
    Cipher.AES_CTR: EncryptThenMac,
    Cipher.AES_GCM: Gcm,
    Cipher.AES_GMAC: Gcm,
    Cipher.AES_CCM: Aead,
    Cipher.CHACHA20_POLY1305: Aead,
}


def transform(sa: Keyed) -> Transform:
    """The transform of ``sa``.

    Raises
    ------
    UnsupportedError
        The software path does not know its cipher.
    """
    if sa.cipher not in _TRANSFORMS:
        raise UnsupportedError(f"The software path lacks {sa.cipher.value}")
    return _TRANSFORMS[sa.cipher](sa)
