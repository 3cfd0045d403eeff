# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Key exchanges: vectors of RFC 3526, NIST (ECDH, ML-KEM) and RFC 7748, both sides, and what a peer may not
send.
"""

from pathlib import Path

import cryptography_vectors
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, mlkem, x25519

from spigate.firmware_py.errors import UnsupportedError
from spigate.firmware_py.ike.crypto import mlkem as own_mlkem
from spigate.firmware_py.ike.crypto.key_exchange import Responded, modp_prime, respond, start, supported
from spigate.firmware_py.ike.wire.errors import InvalidSyntax
from spigate.firmware_py.ike.wire.registry import Ke
from tests.firmware_py.ike.test_mlkem import answers

VECTORS = Path(cryptography_vectors.__file__).parent / "asymmetric"
LENGTHS = {  # KEi, KEr, secret
    Ke.MODP_2048: (256, 256, 256),
    Ke.MODP_3072: (384, 384, 384),
    Ke.MODP_4096: (512, 512, 512),
    Ke.ECP_256: (64, 64, 32),
    Ke.ECP_384: (96, 96, 48),
    Ke.ECP_521: (132, 132, 66),
    Ke.CURVE25519: (32, 32, 32),
    Ke.ML_KEM_512: (800, 768, 32),
    Ke.ML_KEM_768: (1184, 1088, 32),
    Ke.ML_KEM_1024: (1568, 1568, 32),
}
CURVES = {
    Ke.ECP_256: (ec.SECP256R1(), "[EC"),
    Ke.ECP_384: (ec.SECP384R1(), "[ED"),
    Ke.ECP_521: (ec.SECP521R1(), "[EE"),
}


@pytest.mark.parametrize("group", LENGTHS, ids=lambda group: group.name)
def test_both_sides_get_the_same_secret(group):
    initiating = start(group)
    responded = respond(group, initiating.public)
    secret = initiating.finish(responded.public)
    assert secret == responded.secret
    assert (len(initiating.public), len(responded.public), len(secret)) == LENGTHS[group]
    assert (initiating.group, responded.group) == (group, group)
    assert start(group).public != initiating.public


@pytest.mark.parametrize("group", LENGTHS, ids=lambda group: group.name)
def test_wrong_lengths_are_refused(group):
    initiating = start(group)
    responded = respond(group, initiating.public)
    for public in (b"", responded.public[:-1], responded.public + b"\0"):
        with pytest.raises(InvalidSyntax, match="are expected"):
            initiating.finish(public)
    for public in (b"", initiating.public[:-1], initiating.public + b"\0"):
        with pytest.raises(InvalidSyntax, match="are expected"):
            respond(group, public)


def test_what_is_supported():
    assert supported() == set(LENGTHS)
    for group in (Ke.CURVE448, Ke.MODP_1024, 9999):
        with pytest.raises(UnsupportedError, match="is not supported"):
            start(group)
        with pytest.raises(UnsupportedError, match="is not supported"):
            respond(group, bytes(800))


def test_primes_of_rfc_3526():
    text = (VECTORS / "DH" / "rfc3526.txt").read_text()
    primes = {int(line.removeprefix("P = "), 16) for line in text.splitlines() if line.startswith("P = ")}
    assert {modp_prime(group) for group in (Ke.MODP_2048, Ke.MODP_3072, Ke.MODP_4096)} <= primes


@pytest.mark.parametrize("group", [Ke.MODP_2048, Ke.MODP_3072, Ke.MODP_4096], ids=lambda group: group.name)
def test_modp_against_arithmetic_and_its_range(group):
    initiating, prime = start(group), modp_prime(group)
    size = LENGTHS[group][0]
    secret = initiating._key.private_numbers().x
    assert int.from_bytes(initiating.public) == pow(2, secret, prime)
    for value in (2, prime - 2, pow(2, 12345, prime)):  # 2: a secret whose upper bytes may be zero
        assert initiating.finish(value.to_bytes(size)) == pow(value, secret, prime).to_bytes(size)
    for value in (0, 1, prime - 1, prime, prime + 1, (1 << 8 * size) - 1):  # RFC 6989 2.1
        with pytest.raises(InvalidSyntax, match="not between"):
            initiating.finish(value.to_bytes(size))


def _ecdh(marker: str):
    """NIST's CAVS file: cases of one curve."""
    lines = (
        (VECTORS / "ECDH" / "KASValidityTest_ECCStaticUnified_NOKC_ZZOnly_init.fax").read_text().splitlines()
    )
    begin = next(at for at, line in enumerate(lines) if line.startswith(marker + " -"))
    case: dict[str, str] = {}
    for line in lines[begin + 1 :]:
        if line.startswith("["):
            return
        name, _, value = line.partition(" = ")
        case[name] = value
        if name == "Result":
            yield case
            case = {}


@pytest.mark.parametrize("group", CURVES, ids=lambda group: group.name)
def test_nist_ecdh(group):
    curve, marker = CURVES[group]
    size = LENGTHS[group][2]
    good = refused = 0
    for case in _ecdh(marker):
        wrong = "CAVS's Static public key" in case["Result"]
        if not wrong and not case["Result"].startswith("P"):
            continue  # about values that are ours alone
        initiating = start(group)
        initiating._key = ec.derive_private_key(int(case["dsIUT"], 16), curve)
        peer = int(case["QsCAVSx"], 16).to_bytes(size) + int(case["QsCAVSy"], 16).to_bytes(size)
        if wrong:
            with pytest.raises(InvalidSyntax, match="no point"):
                initiating.finish(peer)
            refused += 1
        else:
            assert initiating.finish(peer) == int(case["Z"], 16).to_bytes(size)
            good += 1
    assert (good, refused) == (18, 4)


@pytest.mark.parametrize("group", CURVES, ids=lambda group: group.name)
def test_points_off_the_curve(group):
    public = bytearray(start(group).public)
    public[-1] ^= 1
    for point in (bytes(public), bytes(len(public)), b"\xff" * len(public)):
        with pytest.raises(InvalidSyntax, match="no point"):
            respond(group, point)


def test_rfc_7748_diffie_hellman():
    """6.1."""
    alice = bytes.fromhex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a")
    bob_public = bytes.fromhex("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f")
    initiating = start(Ke.CURVE25519)
    initiating._key = x25519.X25519PrivateKey.from_private_bytes(alice)
    assert (
        initiating.finish(bob_public).hex()
        == "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742"
    )


@pytest.mark.parametrize(
    "point",
    [
        bytes(32),
        b"\1" + bytes(31),
        bytes.fromhex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
        bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    ],
)
def test_points_of_low_order(point):
    with pytest.raises(InvalidSyntax, match="low order"):
        respond(Ke.CURVE25519, point)


@pytest.mark.parametrize(
    ("group", "size", "private"),
    [
        (Ke.ML_KEM_512, 512, own_mlkem.PrivateKey),
        (Ke.ML_KEM_768, 768, mlkem.MLKEM768PrivateKey),
        (Ke.ML_KEM_1024, 1024, mlkem.MLKEM1024PrivateKey),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_ml_kem_vectors(group, size, private):
    for case in answers(size, 50):
        initiating = start(group)
        initiating._key = private.from_seed_bytes(case["d"] + case["z"])
        assert initiating._key.public_key().public_bytes_raw() == case["pk"]
        assert initiating.finish(case["ct"]) == case["ss"]
        assert initiating.finish(case["ct_n"]) == case["ss_n"]  # implicit rejection: another secret, no error
        assert len(respond(group, case["pk"]).public) == len(case["ct"])


@pytest.mark.parametrize(
    "group", [Ke.ML_KEM_512, Ke.ML_KEM_768, Ke.ML_KEM_1024], ids=lambda group: group.name
)
def test_ml_kem_refuses_a_key_with_coefficients_beyond_q(group):
    """FIPS 203 7.2, modulus check."""
    public = start(group).public
    with pytest.raises(InvalidSyntax, match="no encapsulation key"):
        respond(group, b"\xff" * 3 + public[3:])


def test_no_secret_in_a_repr():
    assert "hidden" not in repr(Responded(Ke.ECP_256, b"public", b"hidden"))
