# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Algorithms against Project Wycheproof's vectors.

The files with ``esp`` in their name hold those with the nonce lengths of ESP.
"""

import json
from ipaddress import ip_address
from pathlib import Path

import pytest

from spigate.firmware_py.ipsec.sa import AUTHS, CIPHERS, Auth, Cipher, Sa
from spigate.firmware_py.ipsec.transform import transform
from spigate.hdl.contract.enums import Direction, Mode

WYCHEPROOF = Path(__file__).parents[2] / "data" / "wycheproof"
ENDS = {"source": ip_address("192.0.2.1"), "destination": ip_address("192.0.2.2")}
FILES = {
    Cipher.AES_GCM: "aes_gcm_test.json",
    Cipher.AES_CCM: "aes_ccm_esp.json",
    Cipher.CHACHA20_POLY1305: "chacha20_poly1305_esp.json",
}


def vectors(cipher):
    form = CIPHERS[cipher]
    for group in json.loads((WYCHEPROOF / FILES[cipher]).read_text())["testGroups"]:
        if group["ivSize"] // 8 == form.salt + form.iv and group["tagSize"] // 8 in form.icvs:
            yield from (
                (
                    {name: bytes.fromhex(test[name]) for name in ("key", "iv", "aad", "msg", "ct", "tag")},
                    test["result"],
                )
                for test in group["tests"]
            )


@pytest.mark.parametrize("cipher", FILES)
def test_agrees_with_wycheproof(cipher):
    valid = 0
    for test, result in vectors(cipher):
        salt, iv = test["iv"][: CIPHERS[cipher].salt], test["iv"][CIPHERS[cipher].salt :]
        sa = Sa(
            direction=Direction.INBOUND,
            spi=256,
            mode=Mode.TUNNEL,
            cipher=cipher,
            key=test["key"],
            salt=salt,
            icv_bytes=len(test["tag"]),
            **ENDS,
        )
        # The additional data of ESP are its header; the transforms take one of any length.
        text = transform(sa).open(test["aad"], b"", iv, test["ct"] + test["tag"])
        if result == "invalid":
            assert text is None
        else:
            assert text == test["msg"]
            assert transform(sa).seal(test["aad"], b"", iv, test["msg"]) == test["ct"] + test["tag"]
            damaged = bytes([test["tag"][0] ^ 1]) + test["tag"][1:]
            assert transform(sa).open(test["aad"], b"", iv, test["ct"] + damaged) is None
            valid += 1
    assert valid >= 12


@pytest.mark.parametrize("auth", [Auth.HMAC_SHA256_128, Auth.HMAC_SHA384_192, Auth.HMAC_SHA512_256])
def test_hmacs_agree_with_wycheproof(auth):
    form, results = AUTHS[auth], set()
    for group in json.loads((WYCHEPROOF / f"hmac_{form.hash}_test.json").read_text())["testGroups"]:
        if (group["keySize"], group["tagSize"]) != (8 * form.key, 8 * form.icv):
            continue
        for test in group["tests"]:
            sa = Sa(
                direction=Direction.INBOUND,
                spi=256,
                mode=Mode.TUNNEL,
                auth=auth,
                auth_key=bytes.fromhex(test["key"]),
                **ENDS,
            )
            message, tag = bytes.fromhex(test["msg"]), bytes.fromhex(test["tag"])
            text = transform(sa).open(b"", b"", b"", message + tag)
            assert text == (None if test["result"] == "invalid" else message)
            results.add(test["result"])
    assert results == {"valid", "invalid"}
