# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""ESP (RFC 4303) written on the `cryptography` package for tests alone: the other end of a DFE."""

from dataclasses import dataclass
from ipaddress import ip_address

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from spigate.firmware_py.ipsec import sa as model


@dataclass(frozen=True)
class Suite:
    """A cipher with its key length in bytes, and the hash of its HMAC with the length of the ICV."""

    cipher: str
    key: int = 0
    hash: type | None = None
    icv: int = 16

    @property
    def block(self) -> int:
        return 16 if self.cipher == "cbc" else 4

    @property
    def names(self) -> list[str]:
        """What it takes of the register ``algorithms``."""
        return [
            {"gcm": "cipher_aes_gcm", "cbc": "cipher_aes_cbc", "null": "cipher_null"}[self.cipher],
            *([f"key_aes{8 * self.key}"] if self.key else []),
            *({12: ["auth_hmac_sha1_96"], 16: ["auth_hmac_sha256_128"]}[self.icv] if self.hash else []),
        ]

    @property
    def iv(self) -> int:
        return {"gcm": 8, "cbc": 16, "null": 0}[self.cipher]


SUITES = [
    *(Suite("gcm", key) for key in (16, 24, 32)),
    *(
        Suite("cbc", key, kind, icv)
        for key in (16, 24, 32)
        for kind, icv in ((hashes.SHA1, 12), (hashes.SHA256, 16))
    ),
    *(Suite("null", 0, kind, icv) for kind, icv in ((hashes.SHA1, 12), (hashes.SHA256, 16))),
]


class Peer:
    """One SA, seen from the other end."""

    def __init__(self, suite: Suite, *, spi: int, tunnel: bool, inbound: bool, seed, **more):
        self.suite, self.spi, self.tunnel = suite, spi, tunnel
        self.key, self.salt = seed.randbytes(suite.key), seed.randbytes(4) if suite.cipher == "gcm" else b""
        self.auth_key = seed.randbytes({12: 20, 16: 32}[suite.icv]) if suite.hash else b""
        self.sa = model.Sa(
            direction=model.Direction.INBOUND if inbound else model.Direction.OUTBOUND,
            spi=spi,
            source=ip_address("192.0.2.1"),
            destination=ip_address("198.51.100.2"),
            mode=model.Mode.TUNNEL if tunnel else model.Mode.TRANSPORT,
            cipher={"gcm": model.Cipher.AES_GCM, "cbc": model.Cipher.AES_CBC, "null": model.Cipher.NULL}[
                suite.cipher
            ],
            key=self.key,
            salt=self.salt,
            icv_bytes=16 if suite.cipher == "gcm" else 0,
            auth={
                None: model.Auth.NONE,
                hashes.SHA1: model.Auth.HMAC_SHA1_96,
                hashes.SHA256: model.Auth.HMAC_SHA256_128,
            }[suite.hash],
            auth_key=self.auth_key,
            **more,
        )

    def seal(self, sequence: int, text: bytes, iv: bytes) -> bytes:
        """ESP header to ICV around ``text``, which has its trailer."""
        header = self.spi.to_bytes(4, "big") + sequence.to_bytes(4, "big")
        if self.suite.cipher == "gcm":
            return header + iv + AESGCM(self.key).encrypt(self.salt + iv, text, header)
        if self.suite.cipher == "cbc":
            encryptor = Cipher(algorithms.AES(self.key), modes.CBC(iv)).encryptor()
            text = encryptor.update(text) + encryptor.finalize()
        body = header + iv + text
        return body + self._mac(body)

    def open(self, body: bytes) -> tuple[int, bytes, bytes]:
        """Sequence number, IV and text with trailer of what follows the IP header.

        Raises
        ------
        InvalidTag
            The ICV is wrong.
        """
        header, iv, text, icv = self._split(body)
        assert int.from_bytes(header[:4], "big") == self.spi
        sequence = int.from_bytes(header[4:], "big")
        if self.suite.cipher == "gcm":
            return sequence, iv, AESGCM(self.key).decrypt(self.salt + iv, text + icv, header)
        if self._mac(header + iv + text) != icv:
            raise InvalidTag
        if self.suite.cipher == "cbc":
            decryptor = Cipher(algorithms.AES(self.key), modes.CBC(iv)).decryptor()
            text = decryptor.update(text) + decryptor.finalize()
        return sequence, iv, text

    def nonce(self, sequence: int) -> bytes:
        """The IV that the gateway makes for a packet: the number itself, or for CBC the encryption of a
        number used once.
        """
        if self.suite.cipher == "cbc":
            encryptor = Cipher(algorithms.AES(self.key), modes.ECB()).encryptor()
            return (
                encryptor.update(self.spi.to_bytes(4, "big") + bytes(4) + sequence.to_bytes(8, "big"))
                + encryptor.finalize()
            )
        return sequence.to_bytes(8, "big")[: self.suite.iv]

    def _split(self, body):
        iv_end = 8 + self.suite.iv
        return body[:8], body[8:iv_end], body[iv_end : -self.suite.icv], body[-self.suite.icv :]

    def _mac(self, body):
        mac = hmac.HMAC(self.auth_key, self.suite.hash())
        mac.update(body)
        return mac.finalize()[: self.suite.icv]
