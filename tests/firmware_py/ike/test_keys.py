# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Key derivation: NIST's CAVP example for IKEv2, RFC 4231 and 2202 for the prf, and how the material is
cut.
"""

import hashlib
import hmac
from pathlib import Path

import cryptography_vectors
import pytest

from spigate.firmware_py.ike.crypto.keys import (
    IkeKeys,
    child_keys,
    ike_keys,
    prf,
    prf_bytes,
    prf_plus,
    skeyseed,
    skeyseed_rekey,
    skeyseed_update,
)
from spigate.firmware_py.ike.crypto.proposals import parse, suite_of
from spigate.firmware_py.ike.wire.registry import Prf, ProtocolId

VECTORS = Path(cryptography_vectors.__file__).parent
HASHES = {
    Prf.HMAC_SHA1: "sha1",
    Prf.HMAC_SHA2_256: "sha256",
    Prf.HMAC_SHA2_384: "sha384",
    Prf.HMAC_SHA2_512: "sha512",
}

# CAVP, IKEv2 KDF, [SHA-1], g^ir of 256 bits, nonces of 64, DKM of 1056
NI, NR = bytes.fromhex("32b50d5f4a3763f3"), bytes.fromhex("9206a04b26564cb1")
SPI_I, SPI_R = bytes.fromhex("34c9e7c188868785"), bytes.fromhex("3ff77d760d2b2199")
SECRET = bytes.fromhex("4b2c1f971981a8ad8d0abeafabf38cf75fc8349c148142465ed9c8b516b8be52")
NEW_SECRET = bytes.fromhex("863f3c9d06efd39d2b907b97f8699e5dd5251ef64a2a176f36ee40c87d4f9330")
SEED = bytes.fromhex("a9a7b222b59f8f48645f28a1db5b5f5d7479cba7")
DKM = bytes.fromhex(
    "a14293677cc80ff8f9cc0eee30d895da9d8f405666e30ef0dfcb63c634a46002a2a63080e514a062768b76606f9fa5e992204fc5a670bde3f10d6b02"
    "7113936a5c55b648a194ae587b0088d52204b702c979fa280870d2ed41efa9c549fd11198af1670b143d384bd275c5f594cf266b05ebadca855e4249"
    "520a441a81157435a7a56cc4"
)
DKM_CHILD = bytes.fromhex(
    "8059e3ee8810e6c3a91bc8bcd2a7a41151b8d0e6ae239c7b38093ad85ef4c5811a8e7b5d1cdabd9560b2d5e092d1f24e2d4b85eccdf0ad0dc9abd94b"
    "51ee71814ca6dbc8bb51b6309f5b9545c7eb35cf5580b1e521a8fe20754a2d883ba0c2cf285f524aea6545b33106bc03e614296d319d41d4b50b3f51"
    "0b1c0a22f3e664994d234cb4"
)
DKM_CHILD_DH = bytes.fromhex(
    "bb43244c1860ad65ee1e211ffe8bb3661750c8f89cb9f547df7f4fa61d37301628190e38c66232eab4b3ab14c400a5197dd3730ed4820a8a10394d51"
    "e1c0400052f63ebd36b0e7ef53aaed31eba4a5080d7d4b5666023a8bbb5ffb7857240f9a05884d1b7d2f933708450b7b3288f1fc863ab49fa901227c"
    "ffc06e27899c7054d56fd74c"
)
SEED_REKEY = bytes.fromhex("63e81194946ebd05df7df5ebf5d8750056bf1f1d")

# The same of [SHA-256] and [SHA-384], as NSS quotes NIST's samples
# (gtests/common/testvectors/ike-sha256-vectors.h and -sha384-, 6 to 8): Ni, Nr, SPIi, SPIr; g^ir, SKEYSEED,
# DKM; new g^ir, SKEYSEED of the rekeying
SHA2 = {
    Prf.HMAC_SHA2_256: (
        "3f302be1abcb28e1 8c332ee006064c9b 40dac39e1e1a8640 8619a1cf9a6e4c07",
        "0f4d257d7a58fc4545c7d7a88119eee5d5c9690c5b4c989171d3abbfd99d1d29",
        "5f00d1bd2c58ec224b1e6b71fa0f19a1faa7a193952c444411b47c1a9d8ba6fe",
        "0b137d669b0947d7d026d593f0305ad401ff0c471357d695778a9c7f4b4869ece98aca531188d16041b3bb936d2dbb3b4993a6e768a809160de45d02"
        "83f273a6cdf6854379e31be72b8d3d1fa990cf9c5b015ca9f918a7df6253c958114a09d4e1c19bdcd4db14b29d98db1a74ad405c588662c14a04d0d3"
        "6aa4ab55e90f8986d12d4aad",
        "25f3b12d6f282739256e39bf54eda53b60ffcf379bb7bcc90c27b4c4c578616c",
        "2d63f6debc92048b4fef3889c4c99ca67d6496e0fac14a2bca9a2d6566ff2398",
    ),
    Prf.HMAC_SHA2_384: (
        "fd1b572a8e735591 6013b0ef88dacd3d 2116ad07ce61f749 24880e55f11a65b7",
        "d3288cd87565101e88fe3bad918f31939d8dd26ff1071f8b2d7f447524e58d7c",
        "69fe7a1ac94adaeb711295f5fe004b1a8d6a0b65d05692758ce8ad2f7a45f59d7d0b596f51f7dfcf3330061888f6a94f",
        "4f904c2025c90c817ea5ff9b662a6fdb445a73b57cdf09eacd379b95e1f03cacb04cd6deeda4f952191dd9bc1f7a9502471a648d74dc06d38112de48"
        "a42501f6b1a3ad55c2099cd9a648e5f17e5bf3e34bf9b5953decb768a34f875fe2b78dca0c2fcca81ec1a412006dfaed38fa06882e61f4c148105fb8"
        "e231fdb33c4d484c001721d4",
        "3358f620539473aee8d07e779764c4c6a9aabddc79a28e136b3bac021dbde44a",
        "e0548c1682e13bce454026b3b1bdf42985b24e4e7408095a7c529de38c3d1fcb04c9fe6868042a34c9614c6c99e3fcea",
    ),
}


@pytest.mark.parametrize("algorithm", SHA2)
def test_cavp_sha2(algorithm):
    words, *values = SHA2[algorithm]
    ni, nr, spi_i, spi_r = map(bytes.fromhex, words.split())
    secret, seed, dkm, new_secret, seed_rekey = map(bytes.fromhex, values)
    assert skeyseed(algorithm, secret, ni, nr) == seed
    assert prf_plus(algorithm, seed, ni + nr + spi_i + spi_r, len(dkm)) == dkm
    assert skeyseed_rekey(algorithm, dkm[: prf_bytes(algorithm)], (new_secret,), ni, nr) == seed_rekey
    if algorithm == Prf.HMAC_SHA2_384:
        suite, lengths = suite_of(parse("aes128gcm16-prfsha384-ecp384", ProtocolId.IKE)), (48, 0, 0, 20, 20)
    else:
        suite, lengths = suite_of(parse("aes128-sha256-modp2048", ProtocolId.IKE)), (32, 32, 32, 16, 16)
    keys = ike_keys(suite, seed, ni, nr, spi_i, spi_r)
    stream = keys.d + keys.ai + keys.ar + keys.ei + keys.er
    assert stream == dkm[: sum(lengths)] and len(keys.d) == lengths[0]


def test_cavp_ike_sa():
    assert skeyseed(Prf.HMAC_SHA1, SECRET, NI, NR) == SEED
    assert prf_plus(Prf.HMAC_SHA1, SEED, NI + NR + SPI_I + SPI_R, len(DKM)) == DKM
    keys = ike_keys(suite_of(parse("aes128-sha1-modp2048", ProtocolId.IKE)), SEED, NI, NR, SPI_I, SPI_R)
    assert keys.d + keys.ai + keys.ar + keys.ei + keys.er + keys.pi + keys.pr == DKM
    assert [len(getattr(keys, name)) for name in ("d", "ai", "ar", "ei", "er", "pi", "pr")] == [
        20,
        20,
        20,
        16,
        16,
        20,
        20,
    ]


def test_cavp_child_and_rekey():
    suite = suite_of(parse("aes256-sha1", ProtocolId.ESP))
    for secrets, expected in (((), DKM_CHILD), ((NEW_SECRET,), DKM_CHILD_DH)):
        keys = child_keys(Prf.HMAC_SHA1, DKM[:20], suite, NI, NR, secrets)
        assert (keys.initiator.key, keys.initiator.auth_key) == (expected[:32], expected[32:52])
        assert (keys.responder.key, keys.responder.auth_key) == (expected[52:84], expected[84:104])
    assert skeyseed_rekey(Prf.HMAC_SHA1, DKM[:20], (NEW_SECRET,), NI, NR) == SEED_REKEY


def _hmac_vectors(name: str):
    case = {}
    for line in (VECTORS / "HMAC" / name).read_text().splitlines():
        key, _, value = line.partition(" = ")
        if value:
            case[key.strip()] = value.strip()
        if key.strip() == "MD":
            yield case
            case = {}


@pytest.mark.parametrize(
    ("algorithm", "name", "count"),
    [
        (Prf.HMAC_SHA1, "rfc-2202-sha1.txt", 7),
        (Prf.HMAC_SHA2_256, "rfc-4231-sha256.txt", 6),
        (Prf.HMAC_SHA2_384, "rfc-4231-sha384.txt", 6),
        (Prf.HMAC_SHA2_512, "rfc-4231-sha512.txt", 6),
    ],
)
def test_prf_vectors(algorithm, name, count):
    cases = list(_hmac_vectors(name))
    assert len(cases) == count
    for case in cases:
        digest = prf(algorithm, bytes.fromhex(case["Key"]), bytes.fromhex(case["Msg"]))
        assert digest.hex() == case["MD"].lower()
        assert len(digest) == prf_bytes(algorithm)


@pytest.mark.parametrize("algorithm", HASHES)
def test_prf_plus_by_its_definition(algorithm):
    def mac(data):
        return hmac.new(b"key", data, getattr(hashlib, HASHES[algorithm])).digest()

    one = mac(b"seed\1")
    two = mac(one + b"seed\2")
    three = mac(two + b"seed\3")
    for length in (0, 1, len(one), len(one) + 1, 3 * len(one)):
        assert prf_plus(algorithm, b"key", b"seed", length) == (one + two + three)[:length]
    with pytest.raises(ValueError, match="at most"):
        prf_plus(algorithm, b"key", b"seed", 255 * len(one) + 1)


@pytest.mark.parametrize(
    ("words", "protocol", "lengths"),
    [
        ("aes256gcm16", ProtocolId.ESP, (32, 4, 0)),
        ("aes128gcm8", ProtocolId.ESP, (16, 4, 0)),
        ("aes128ccm16", ProtocolId.ESP, (16, 3, 0)),
        ("chacha20poly1305", ProtocolId.ESP, (32, 4, 0)),
        ("aes192ctr-sha512", ProtocolId.ESP, (24, 4, 64)),
        ("aes256gmac", ProtocolId.ESP, (32, 4, 0)),
        ("null-sha256", ProtocolId.ESP, (0, 0, 32)),
        ("sha384", ProtocolId.AH, (0, 0, 48)),
    ],
)
def test_lengths_of_child_keys(words, protocol, lengths):
    keys = child_keys(Prf.HMAC_SHA2_256, bytes(32), suite_of(parse(words, protocol)), NI, NR)
    stream = prf_plus(Prf.HMAC_SHA2_256, bytes(32), NI + NR, 2 * sum(lengths))
    for half, side in enumerate((keys.initiator, keys.responder)):
        assert (len(side.key), len(side.salt), len(side.auth_key)) == lengths
        assert side.key + side.salt + side.auth_key == stream[half * sum(lengths) :][: sum(lengths)]


def test_additional_key_exchanges_are_mixed_as_rfc_9370_says():
    """2.2.2: SKEYSEED(n) = prf(SK_d(n-1), SK(n) | Ni | Nr); 2.2.4: the others stand behind the nonces."""
    mac = hmac.new(b"d", b"s1" + NI + NR, hashlib.sha384).digest()
    assert skeyseed_update(Prf.HMAC_SHA2_384, b"d", b"s1", NI, NR) == mac
    mac = hmac.new(b"d", b"s0" + NI + NR + b"s1" + b"s2", hashlib.sha384).digest()
    assert skeyseed_rekey(Prf.HMAC_SHA2_384, b"d", (b"s0", b"s1", b"s2"), NI, NR) == mac
    suite = suite_of(parse("aes256gcm16", ProtocolId.ESP))
    stream = prf_plus(Prf.HMAC_SHA2_384, b"d", b"s0" + NI + NR + b"s1" + b"s2", 72)
    assert (
        child_keys(Prf.HMAC_SHA2_384, b"d", suite, NI, NR, (b"s0", b"s1", b"s2")).initiator.key == stream[:32]
    )


def test_nothing_secret_in_a_repr():
    keys = child_keys(Prf.HMAC_SHA1, DKM[:20], suite_of(parse("aes256-sha1", ProtocolId.ESP)), NI, NR)
    assert repr(IkeKeys(*7 * (b"secret",))) == "IkeKeys()"
    assert repr(keys) == "ChildKeys(initiator=TrafficKeys(), responder=TrafficKeys())"
