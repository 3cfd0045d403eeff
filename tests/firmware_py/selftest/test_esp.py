# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""ESP from a table's rows, against ``cryptography`` where the rows are those of a key."""

import random
import struct
from ipaddress import ip_address

import pytest

from spigate.firmware_py.ipsec.sa import AUTHS as FORMS
from spigate.firmware_py.ipsec.sa import Auth, Cipher, Sa
from spigate.firmware_py.ipsec.transform import transform
from spigate.firmware_py.selftest.esp import RawKeys
from spigate.firmware_py.tables import rows
from spigate.firmware_py.tables.interface import AES_KEYS, AUTHS, CIPHERS
from spigate.hdl.contract import enums, rdl
from spigate.hdl.contract.enums import Direction, Mode

SUITES = [
    *((Cipher.NULL, 0, auth) for auth in AUTHS),
    *((Cipher.AES_CBC, size, auth) for size in AES_KEYS for auth in AUTHS),
    *((Cipher.AES_GCM, size, Auth.NONE) for size in AES_KEYS),
]


def made(random_, cipher, size, auth):
    gcm = cipher == Cipher.AES_GCM
    return Sa(
        direction=Direction.OUTBOUND,
        spi=random_.randrange(256, 1 << 32),
        source=ip_address("192.0.2.1"),
        destination=ip_address("192.0.2.2"),
        mode=Mode.TUNNEL,
        cipher=cipher,
        key=random_.randbytes(size),
        salt=random_.randbytes(4) if gcm else b"",
        icv_bytes=16 if gcm else 0,
        auth=auth,
        auth_key=random_.randbytes(FORMS[auth].key) if auth != Auth.NONE else b"",
    )


def raw(sa):
    """Keys as they stand in the words that the driver writes."""
    words = rows.sa(sa, None)
    row = {name: row.index * rdl.ROW_WORDS for name, row in rdl.entry("sa").items()}

    def text(first, last):
        return struct.pack(f"<{row[last] - row[first] + 4}I", *words[row[first] : row[last] + 4])

    return RawKeys(
        CIPHERS[sa.cipher],
        AES_KEYS.get(len(sa.key), enums.KeySize.AES128),
        AUTHS.get(sa.auth, enums.Auth.NONE),
        text("key_low", "key_high"),
        text("auth_0", "auth_3"),
        sa.salt or bytes(4),
    )


@pytest.mark.parametrize(("cipher", "size", "auth"), SUITES)
def test_from_rows_comes_what_the_library_makes_of_the_key(cipher, size, auth):
    random_ = random.Random(f"{cipher} {size} {auth}")
    for length in range(70):
        sa, payload = made(random_, cipher, size, auth), random_.randbytes(length)
        number = random_.randrange(1, 1 << 32)
        sealed = raw(sa).seal(sa.spi, number, payload, 4)
        header, iv = sealed[:8], sealed[8 : 8 + {Cipher.AES_GCM: 8, Cipher.AES_CBC: 16}.get(cipher, 0)]
        assert header == struct.pack(">II", sa.spi, number)
        text = transform(sa).open(header, b"", iv, sealed[8 + len(iv) :])
        assert text is not None, length
        assert text[:length] == payload
        assert text[-1] == 4 and text[length:-1] == bytes(
            [*range(1, len(text) - length - 1), len(text) - length - 2]
        )


def test_rows_that_no_key_has_do_as_well():
    """All of a row's bits the other way round: other text, another ICV, of the same lengths."""
    keys = raw(made(random.Random(1), Cipher.AES_CBC, 32, Auth.HMAC_SHA256_128))
    turned = RawKeys(
        keys.cipher,
        keys.key_size,
        keys.auth,
        keys.key,
        bytes(byte ^ 0xFF for byte in keys.auth_rows),
    )
    one, other = (each.seal(300, 1, b"payload", 4) for each in (keys, turned))
    assert one[:-16] == other[:-16] and one[-16:] != other[-16:]
