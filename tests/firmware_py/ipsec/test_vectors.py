# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The published packets and blocks of the RFCs, sealed and opened by the software path's transforms."""

from ipaddress import ip_address

import pytest

from spigate.firmware_py.ipsec.packet import Refused, ipv4_header
from spigate.firmware_py.ipsec.sa import AUTHS, ESP, Auth, Cipher, Sa
from spigate.firmware_py.ipsec.soft_sa import SoftSa
from spigate.firmware_py.ipsec.transform import transform
from spigate.hdl.contract.enums import Direction, Mode
from tests.nist import nist

SINGLE = b"Single block msg"
COUNT = bytes(range(64))


def make(cipher, key, salt=b"", icv_bytes=0, auth=Auth.NONE, auth_key=None, **changes):
    auth_key = bytes(AUTHS[auth].key) if auth != Auth.NONE and auth_key is None else auth_key or b""
    return Sa(
        **{
            "direction": Direction.INBOUND,
            "spi": 0x1234,
            "source": ip_address("192.0.2.1"),
            "destination": ip_address("192.0.2.2"),
            "mode": Mode.TUNNEL,
            "cipher": cipher,
            "key": key,
            "salt": salt,
            "icv_bytes": icv_bytes,
            "auth": auth,
            "auth_key": auth_key,
            **changes,
        }
    )


@pytest.mark.parametrize(
    ("key", "iv", "text", "sealed"),
    [
        # RFC 3602 4, cases 1 and 2
        (
            "06a9214036b8a15b512e03d534120006",
            "3dafba429d9eb430b422da802c9fac41",
            SINGLE,
            "e353779c1079aeb82708942dbe77181a",
        ),
        (
            "c286696d887c9aa0611bbb3e2025a45a",
            "562e17996d093d28ddb3ba695a2e6f58",
            COUNT[:32],
            "d296cd94c2cccf8a3a863028b5e1dc0a7586602d253cfff91b8266bea6d61ab1",
        ),
        # NIST's, of several blocks
        *(
            (case["KEY"], case["IV"], bytes.fromhex(case["PLAINTEXT"]), case["CIPHERTEXT"])
            for bits in (128, 192, 256)
            for case in nist(f"CBC/CBCMMT{bits}.rsp")
        ),
    ],
)
def test_cbc_of_rfc_3602_and_nist(key, iv, text, sealed):
    _both_ways(
        make(Cipher.AES_CBC, bytes.fromhex(key), auth=Auth.HMAC_SHA1_96), bytes.fromhex(iv), text, sealed
    )


@pytest.mark.parametrize("bits", [128, 192, 256])
def test_ctr_of_rfc_3686(bits):
    """6, all vectors: the counter block is nonce (here: salt), IV, and 1."""
    cases = list(nist(f"CTR/aes-{bits}-ctr.txt"))
    assert len(cases) == 3
    for case in cases:
        block = bytes.fromhex(case["IV"])
        assert block[12:] == (1).to_bytes(4)
        sa = make(Cipher.AES_CTR, bytes.fromhex(case["KEY"]), block[:4], auth=Auth.HMAC_SHA1_96)
        _both_ways(sa, block[4:12], bytes.fromhex(case["PLAINTEXT"]), case["CIPHERTEXT"].lower())


def _both_ways(sa, iv, text, sealed):
    made = transform(sa).seal(b"header..", b"", iv, text)
    assert made[:-12].hex() == sealed
    assert transform(sa).open(b"header..", b"", iv, made) == text


@pytest.mark.parametrize(
    ("auth", "key_bytes", "icv"),
    [
        # RFC 4868 2.7.1 and 2.7.2 (AUTH256-1, AUTH384-1, AUTH512-1); RFC 2202 3, case 1
        (Auth.HMAC_SHA256_128, 32, "198a607eb44bfbc69903a0f1cf2bbdc5"),
        (Auth.HMAC_SHA384_192, 48, "b6a8d5636f5c6a7224f9977dcf7ee6c7fb6d0c48cbdee973"),
        (Auth.HMAC_SHA512_256, 64, "637edc6e01dce7e6742a99451aae82df23da3e92439e590e43e761b33e910fb8"),
        (Auth.HMAC_SHA1_96, 20, "b617318655057264e28bc0b6"),
    ],
)
def test_hmacs_of_rfc_2202_and_4868(auth, key_bytes, icv):
    sa = make(Cipher.NULL, b"", auth=auth, auth_key=b"\x0b" * key_bytes)
    assert transform(sa).seal(b"Hi", b"", b"", b" There") == b" There" + bytes.fromhex(icv)


def test_packet_of_rfc_7634():
    """Appendix A, the whole packet; the header outside is ours."""
    key, salt, iv = bytes(range(0x80, 0xA0)), bytes.fromhex("a0a1a2a3"), bytes.fromhex("1011121314151617")
    plain = bytes.fromhex(
        "45000054a6f200004001e778c6336405c000020508005b7a3a080000553bec100007362708090a0b0c0d0e0f"
        "101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f3031323334353637"
    )
    sealed = bytes.fromhex(
        "24039428b97f417e3c13753a4f05087b67c352e6a7fab1b982d466ef407ae5c614ee8099d52844eb61aa95dfab4c02f7"
        "2aa71e7c4c4f64c9befe2facc638e8f3cbec163fac469b502773f6fb94e664da9165b82829f641e0"
        "76aaa8266b7fb0f7b11b369907e1ad43"
    )
    sa = make(Cipher.CHACHA20_POLY1305, key, salt, 16, spi=0x01020304)
    esp = bytes.fromhex("0102030400000005") + iv + sealed
    packet = ipv4_header(ip_address("203.0.113.153"), ip_address("203.0.113.5"), ESP, len(esp)) + esp
    assert len(packet) == 0x8C
    assert SoftSa(sa).decapsulate(packet) == plain
    with pytest.raises(Refused, match="^icv$"):
        SoftSa(sa).decapsulate(packet[:-1] + bytes([packet[-1] ^ 1]))


@pytest.mark.parametrize(
    ("key", "salt", "header", "high", "iv", "text", "sealed"),
    [
        # draft-mcgrew-gcm-test-01 4, the first case of ESP with RFC 4106: 64-bit sequence number
        (
            "4c80cdefbb5d10da906ac73c3613a634",
            "2e443b68",
            "0000432100000000",
            "87654321",
            "4956ed7e3b244cfe",
            "45000048699a000080114db7c0a80102c0a801010a9bf15638d3010000010000"
            "00000000045f736970045f756470037369700963796265726369747902646b0000210001"
            "01020201",
            "fecf537e729d5b07dc30df528dd22b768d1b98736696a6fd348509fa13ceac34"
            "cfa2436f14a3f3cf65925bf1f4a13c5d15b21e1884f5ff6247aeabb786b93bce61bc17d768fd9732"
            "459018148f6cbe722fd04796562dfdb4",
        )
    ],
)
def test_packet_of_rfc_4106(key, salt, header, high, iv, text, sealed):
    sa = make(Cipher.AES_GCM, bytes.fromhex(key), bytes.fromhex(salt), 16, esn=True)
    made = transform(sa).seal(
        bytes.fromhex(header), bytes.fromhex(high), bytes.fromhex(iv), bytes.fromhex(text)
    )
    assert made.hex() == sealed
