# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The line of Wireshark's ``ikev2_decryption_table`` that opens an IKE SA: secret, so only where
asked for.
"""

from spigate.firmware_py.ike.crypto.keys import IkeKeys
from spigate.firmware_py.ike.crypto.proposals import Suite
from spigate.firmware_py.ike.wire.registry import Integ
from spigate.firmware_py.ipsec.sa import Cipher

_MODES = {Cipher.AES_GCM: "GCM", Cipher.AES_CCM: "CCM"}
_INTEGRITY = {
    Integ.NONE: "NONE [RFC4306]",
    Integ.HMAC_SHA1_96: "HMAC_SHA1_96 [RFC2404]",
    Integ.HMAC_SHA2_256_128: "HMAC_SHA2_256_128 [RFC4868]",
    Integ.HMAC_SHA2_384_192: "HMAC_SHA2_384_192 [RFC4868]",
    Integ.HMAC_SHA2_512_256: "HMAC_SHA2_512_256 [RFC4868]",
}


def line(suite: Suite, keys: IkeKeys, spi_i: bytes, spi_r: bytes) -> str | None:
    """The line, without its end; None: Wireshark does not know the cipher (ChaCha20-Poly1305)."""
    if suite.cipher == Cipher.AES_CBC:
        cipher = f"AES-CBC-{suite.key_bits} [RFC3602]"
    elif suite.cipher in _MODES:
        cipher = f"AES-{_MODES[suite.cipher]}-{suite.key_bits} with {suite.icv_bytes} octet ICV [RFC5282]"
    else:
        return None
    return (
        f'{spi_i.hex()},{spi_r.hex()},{keys.ei.hex()},{keys.er.hex()},"{cipher}",'
        f'{keys.ai.hex()},{keys.ar.hex()},"{_INTEGRITY[suite.integrity]}"'
    )
