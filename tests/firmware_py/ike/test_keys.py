"""Key derivation: NIST's CAVP example for IKEv2, RFC 4231 and 2202 for the prf, and how the material is cut."""
import hashlib
import hmac
from pathlib import Path

import cryptography_vectors
import pytest

from spigate.firmware_py.ike.keys import (
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
from spigate.firmware_py.ike.proposals import parse, suite_of
from spigate.firmware_py.ike.registry import Prf, ProtocolId

VECTORS = Path(cryptography_vectors.__file__).parent
HASHES = {Prf.HMAC_SHA1: "sha1", Prf.HMAC_SHA2_256: "sha256", Prf.HMAC_SHA2_384: "sha384", Prf.HMAC_SHA2_512: "sha512"}

# CAVP, IKEv2 KDF, [SHA-1], g^ir of 256 bits, nonces of 64, DKM of 1056
NI, NR = bytes.fromhex("32b50d5f4a3763f3"), bytes.fromhex("9206a04b26564cb1")
SPI_I, SPI_R = bytes.fromhex("34c9e7c188868785"), bytes.fromhex("3ff77d760d2b2199")
SECRET = bytes.fromhex("4b2c1f971981a8ad8d0abeafabf38cf75fc8349c148142465ed9c8b516b8be52")
NEW_SECRET = bytes.fromhex("863f3c9d06efd39d2b907b97f8699e5dd5251ef64a2a176f36ee40c87d4f9330")
SEED = bytes.fromhex("a9a7b222b59f8f48645f28a1db5b5f5d7479cba7")
DKM = bytes.fromhex(
    "a14293677cc80ff8f9cc0eee30d895da9d8f405666e30ef0dfcb63c634a46002a2a63080e514a062768b76606f9fa5e992204fc5a670bde3f10d6b02"
    "7113936a5c55b648a194ae587b0088d52204b702c979fa280870d2ed41efa9c549fd11198af1670b143d384bd275c5f594cf266b05ebadca855e4249"
    "520a441a81157435a7a56cc4")
DKM_CHILD = bytes.fromhex(
    "8059e3ee8810e6c3a91bc8bcd2a7a41151b8d0e6ae239c7b38093ad85ef4c5811a8e7b5d1cdabd9560b2d5e092d1f24e2d4b85eccdf0ad0dc9abd94b"
    "51ee71814ca6dbc8bb51b6309f5b9545c7eb35cf5580b1e521a8fe20754a2d883ba0c2cf285f524aea6545b33106bc03e614296d319d41d4b50b3f51"
    "0b1c0a22f3e664994d234cb4")
DKM_CHILD_DH = bytes.fromhex(
    "bb43244c1860ad65ee1e211ffe8bb3661750c8f89cb9f547df7f4fa61d37301628190e38c66232eab4b3ab14c400a5197dd3730ed4820a8a10394d51"
    "e1c0400052f63ebd36b0e7ef53aaed31eba4a5080d7d4b5666023a8bbb5ffb7857240f9a05884d1b7d2f933708450b7b3288f1fc863ab49fa901227c"
    "ffc06e27899c7054d56fd74c")
SEED_REKEY = bytes.fromhex("63e81194946ebd05df7df5ebf5d8750056bf1f1d")


def test_cavp_ike_sa():
    assert skeyseed(Prf.HMAC_SHA1, SECRET, NI, NR) == SEED
    assert prf_plus(Prf.HMAC_SHA1, SEED, NI + NR + SPI_I + SPI_R, len(DKM)) == DKM
    keys = ike_keys(suite_of(parse("aes128-sha1-modp2048", ProtocolId.IKE)), SEED, NI, NR, SPI_I, SPI_R)
    assert keys.d + keys.ai + keys.ar + keys.ei + keys.er + keys.pi + keys.pr == DKM
    assert [len(getattr(keys, name)) for name in ("d", "ai", "ar", "ei", "er", "pi", "pr")] == [20, 20, 20, 16, 16, 20, 20]


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


@pytest.mark.parametrize(("algorithm", "name", "count"), [
    (Prf.HMAC_SHA1, "rfc-2202-sha1.txt", 7), (Prf.HMAC_SHA2_256, "rfc-4231-sha256.txt", 6),
    (Prf.HMAC_SHA2_384, "rfc-4231-sha384.txt", 6), (Prf.HMAC_SHA2_512, "rfc-4231-sha512.txt", 6)])
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


@pytest.mark.parametrize(("words", "protocol", "lengths"), [
    ("aes256gcm16", ProtocolId.ESP, (32, 4, 0)), ("aes128gcm8", ProtocolId.ESP, (16, 4, 0)),
    ("aes128ccm16", ProtocolId.ESP, (16, 3, 0)), ("chacha20poly1305", ProtocolId.ESP, (32, 4, 0)),
    ("aes192ctr-sha512", ProtocolId.ESP, (24, 4, 64)), ("aes256gmac", ProtocolId.ESP, (32, 4, 0)),
    ("null-sha256", ProtocolId.ESP, (0, 0, 32)), ("sha384", ProtocolId.AH, (0, 0, 48))])
def test_lengths_of_child_keys(words, protocol, lengths):
    keys = child_keys(Prf.HMAC_SHA2_256, bytes(32), suite_of(parse(words, protocol)), NI, NR)
    stream = prf_plus(Prf.HMAC_SHA2_256, bytes(32), NI + NR, 2 * sum(lengths))
    for half, side in enumerate((keys.initiator, keys.responder)):
        assert (len(side.key), len(side.salt), len(side.auth_key)) == lengths
        assert side.key + side.salt + side.auth_key == stream[half * sum(lengths):][:sum(lengths)]


def test_additional_key_exchanges_are_mixed_as_rfc_9370_says():
    """2.2.2: SKEYSEED(n) = prf(SK_d(n-1), SK(n) | Ni | Nr); 2.2.4: the others stand behind the nonces."""
    mac = hmac.new(b"d", b"s1" + NI + NR, hashlib.sha384).digest()
    assert skeyseed_update(Prf.HMAC_SHA2_384, b"d", b"s1", NI, NR) == mac
    mac = hmac.new(b"d", b"s0" + NI + NR + b"s1" + b"s2", hashlib.sha384).digest()
    assert skeyseed_rekey(Prf.HMAC_SHA2_384, b"d", (b"s0", b"s1", b"s2"), NI, NR) == mac
    suite = suite_of(parse("aes256gcm16", ProtocolId.ESP))
    stream = prf_plus(Prf.HMAC_SHA2_384, b"d", b"s0" + NI + NR + b"s1" + b"s2", 72)
    assert child_keys(Prf.HMAC_SHA2_384, b"d", suite, NI, NR, (b"s0", b"s1", b"s2")).initiator.key == stream[:32]


def test_nothing_secret_in_a_repr():
    keys = child_keys(Prf.HMAC_SHA1, DKM[:20], suite_of(parse("aes256-sha1", ProtocolId.ESP)), NI, NR)
    assert repr(IkeKeys(*7 * (b"secret",))) == "IkeKeys()"
    assert repr(keys) == "ChildKeys(initiator=TrafficKeys(), responder=TrafficKeys())"
