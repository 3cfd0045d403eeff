# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""AUTH: RFC 4754's examples, every kind of key both ways, and what must not pass."""

import hashlib
import hmac
import random

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa, x25519
from cryptography.hazmat.primitives.serialization import Encoding

from spigate.firmware_py.errors import UnsupportedError
from spigate.firmware_py.ike.crypto.authentication import (
    ECDSA,
    ED25519,
    PKCS1,
    PSS,
    SUPPORTED_HASHES,
    hashes_notify,
    hashes_of,
    int_auth,
    int_auth_step,
    psk_auth,
    sign,
    signed_octets,
    verify_psk,
    verify_signature,
)
from spigate.firmware_py.ike.wire.errors import AuthenticationFailed, InvalidSyntax
from spigate.firmware_py.ike.wire.payloads import Auth, IdI, IdR, Notify
from spigate.firmware_py.ike.wire.registry import AuthMethod, HashAlgorithm, IdType, NotifyType, Prf
from tests.firmware_py.ike.authority import FROM, TO, name

RSA = rsa.generate_private_key(65537, 2048)
KEYS = {
    "rsa": RSA,
    "p256": ec.generate_private_key(ec.SECP256R1()),
    "p384": ec.generate_private_key(ec.SECP384R1()),
    "p521": ec.generate_private_key(ec.SECP521R1()),
    "ed25519": ed25519.Ed25519PrivateKey.generate(),
}
CLASSIC = {
    "rsa": AuthMethod.RSA,
    "p256": AuthMethod.ECDSA_256,
    "p384": AuthMethod.ECDSA_384,
    "p521": AuthMethod.ECDSA_521,
}
DIGESTS = {
    HashAlgorithm.SHA2_256: hashes.SHA256(),
    HashAlgorithm.SHA2_384: hashes.SHA384(),
    HashAlgorithm.SHA2_512: hashes.SHA512(),
}


@pytest.mark.parametrize(
    ("curve", "method", "x", "y", "r", "s"),
    [
        (
            ec.SECP256R1(),
            9,
            "2442A5CC0ECD015FA3CA31DC8E2BBC70BF42D60CBCA20085E0822CB04235E970",
            "6FC98BD7E50211A4A27102FA3549DF79EBCB4BF246B80945CDDFE7D509BBFD7D",
            "CB28E0999B9C7715FD0A80D8E47A77079716CBBF917DD72E97566EA1C066957C",
            "86FA3BB4E26CAD5BF90B7F81899256CE7594BB1EA0C89212748BFF3B3D5B0315",
        )
    ],
)
def test_rfc_4754_section_8(curve, method, x, y, r, s):
    key = ec.EllipticCurvePublicNumbers(int(x, 16), int(y, 16), curve).public_key()
    verify_signature(Auth(method, bytes.fromhex(r + s)), key, b"abc")
    with pytest.raises(AuthenticationFailed, match="signature is wrong"):
        verify_signature(Auth(method, bytes.fromhex(r + s)), key, b"abd")


def test_algorithm_identifiers_are_those_of_certificates():
    """`cryptography` writes the same bytes into a certificate that it signs."""

    def certificate(key, digest, pss=None) -> bytes:
        builder = (
            x509.CertificateBuilder()
            .subject_name(name("x"))
            .issuer_name(name("x"))
            .serial_number(1)
            .public_key(key.public_key())
            .not_valid_before(FROM)
            .not_valid_after(TO)
        )
        return builder.sign(key, digest, rsa_padding=pss).public_bytes(Encoding.DER)

    for number, digest in DIGESTS.items():
        assert certificate(RSA, digest).count(PKCS1[number]) == 2
        assert (
            certificate(RSA, digest, padding.PSS(padding.MGF1(digest), digest.digest_size)).count(PSS[number])
            == 2
        )
        assert certificate(KEYS["p256"], digest).count(ECDSA[number]) == 2
    assert certificate(KEYS["ed25519"], None).count(ED25519) == 3  # of the key, too


@pytest.mark.parametrize("kind", KEYS)
@pytest.mark.parametrize("pss", [True, False])
@pytest.mark.parametrize(
    "peer_hashes", [SUPPORTED_HASHES, (HashAlgorithm.SHA2_512, HashAlgorithm.IDENTITY), (1, 99), None]
)
def test_signed_and_verified(kind, pss, peer_hashes):
    key = KEYS[kind]
    if kind == "ed25519" and 5 not in (peer_hashes or ()):
        with pytest.raises(UnsupportedError, match="identity hash"):
            sign(key, b"octets", peer_hashes)
        return
    auth = sign(key, b"octets", peer_hashes, pss=pss)
    modern = peer_hashes is not None and 4 in peer_hashes
    assert auth.method == (AuthMethod.DIGITAL_SIGNATURE if modern else CLASSIC[kind])
    verify_signature(auth, key.public_key(), b"octets")
    with pytest.raises(AuthenticationFailed):
        verify_signature(auth, key.public_key(), b"Octets")
    for other in KEYS.values():
        if other is not key:
            with pytest.raises(AuthenticationFailed):
                verify_signature(auth, other.public_key(), b"octets")


@pytest.mark.parametrize("kind", KEYS)
def test_no_damage_passes(kind):
    """RSA, ECDSA and Ed25519 with random changes; nothing but the named error."""
    rng, key = random.Random(kind), KEYS[kind]
    for peer_hashes in (SUPPORTED_HASHES, None) if kind != "ed25519" else (SUPPORTED_HASHES,):
        auth = sign(key, b"octets", peer_hashes)
        for _ in range(200):
            data = bytearray(auth.data)
            at = rng.randrange(len(data) + 1)
            data[at : at + rng.randrange(3)] = rng.randbytes(rng.randrange(3))
            if data != auth.data:
                with pytest.raises(AuthenticationFailed):
                    verify_signature(Auth(auth.method, bytes(data)), key.public_key(), b"octets")
        for method in (0, 1, 2, 9, 10, 11, 13, 14, 99):
            if method != auth.method:
                with pytest.raises(AuthenticationFailed):
                    verify_signature(Auth(method, auth.data), key.public_key(), b"octets")


def test_sha1_is_for_peers_without_rfc_7427():
    """Who announced hashes signs with one of them: SHA-1 from such a peer was taken. SHA-2 under method 1
    is as good as before.
    """
    for digest in (hashes.SHA1(), *DIGESTS.values()):
        auth = Auth(AuthMethod.RSA, RSA.sign(b"octets", padding.PKCS1v15(), digest))
        for announced in ((), SUPPORTED_HASHES):
            if isinstance(digest, hashes.SHA1):
                with pytest.raises(AuthenticationFailed, match="signature is wrong"):
                    verify_signature(auth, RSA.public_key(), b"octets", announced)
            else:
                verify_signature(auth, RSA.public_key(), b"octets", announced)


def test_rsa_method_1_says_its_hash_inside():
    for digest in (hashes.SHA1(), *DIGESTS.values()):
        verify_signature(
            Auth(AuthMethod.RSA, RSA.sign(b"octets", padding.PKCS1v15(), digest)), RSA.public_key(), b"octets"
        )
    with pytest.raises(AuthenticationFailed, match="wrong"):
        verify_signature(
            Auth(AuthMethod.RSA, RSA.sign(b"octets", padding.PKCS1v15(), hashes.MD5())),
            RSA.public_key(),
            b"octets",
        )


def test_pss_as_other_peers_write_it():
    """RFC 7427 A.4.3: with the trailer field, which DER leaves out."""
    algorithm = bytes.fromhex(
        "304606092a864886f70d01010a3039a00f300d06096086480165030402010500a11c301a06092a864886f70d010108300d0609608648016503"
        "0402010500a203020120a303020101"
    )
    signature = RSA.sign(b"octets", padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256())
    verify_signature(Auth(14, bytes([len(algorithm)]) + algorithm + signature), RSA.public_key(), b"octets")


def test_sha_1_is_too_weak_for_method_14():
    for algorithm, key, signature in (
        ("300d06092a864886f70d0101050500", RSA, RSA.sign(b"octets", padding.PKCS1v15(), hashes.SHA1())),
        ("300906072a8648ce3d0401", KEYS["p256"], KEYS["p256"].sign(b"octets", ec.ECDSA(hashes.SHA1()))),
    ):
        data = bytes.fromhex(algorithm)
        with pytest.raises(AuthenticationFailed, match="too weak"):
            verify_signature(Auth(14, bytes([len(data)]) + data + signature), key.public_key(), b"octets")


def test_keys_that_do_not_do():
    weak = rsa.generate_private_key(65537, 1024)
    with pytest.raises(AuthenticationFailed, match="at least 2048"):
        verify_signature(sign(weak, b"octets", None), weak.public_key(), b"octets")
    for key in (
        ec.generate_private_key(ec.SECP256K1()),
        ed448.Ed448PrivateKey.generate(),
        x25519.X25519PrivateKey.generate(),
    ):
        with pytest.raises(UnsupportedError, match="does not sign"):
            sign(key, b"octets", SUPPORTED_HASHES)
        with pytest.raises(AuthenticationFailed, match="does not verify"):
            verify_signature(Auth(14, b""), key.public_key(), b"octets")


def test_pre_shared_keys_by_the_formula():
    """RFC 7296 2.15: prf(prf(Shared Secret, "Key Pad for IKEv2"), octets)."""
    inner = hmac.new(b"secret", b"Key Pad for IKEv2", hashlib.sha256).digest()
    auth = psk_auth(b"secret", Prf.HMAC_SHA2_256, b"octets")
    assert auth == Auth(AuthMethod.PSK, hmac.new(inner, b"octets", hashlib.sha256).digest())
    verify_psk(auth, b"secret", Prf.HMAC_SHA2_256, b"octets")
    for wrong in (
        Auth(AuthMethod.PSK, auth.data[:-1]),
        Auth(AuthMethod.PSK, b""),
        Auth(AuthMethod.RSA, auth.data),
        psk_auth(b"Secret", Prf.HMAC_SHA2_256, b"octets"),
        psk_auth(b"secret", Prf.HMAC_SHA2_256, b"Octets"),
    ):
        with pytest.raises(AuthenticationFailed) as caught:
            verify_psk(wrong, b"secret", Prf.HMAC_SHA2_256, b"octets")
        assert "secret" not in str(caught.value)


def test_what_is_signed():
    identity = IdI(IdType.FQDN, b"gw", b"\1\2\3")  # reserved bytes count as they came
    mac = hmac.new(b"SK_p", b"\2\1\2\3gw", hashlib.sha384).digest()
    assert signed_octets(b"message", b"nonce", Prf.HMAC_SHA2_384, b"SK_p", identity, b"int") == (
        b"message" + b"nonce" + mac + b"int"
    )
    assert signed_octets(
        b"message", b"nonce", Prf.HMAC_SHA2_384, b"SK_p", IdR(IdType.FQDN, b"gw", b"\1\2\3")
    ) == (b"message" + b"nonce" + mac)


def test_int_auth_by_the_formula():
    """RFC 9242 3.3.1."""
    one = int_auth_step(Prf.HMAC_SHA2_256, b"SK_pi1", b"", b"A1P1")
    assert one == hmac.new(b"SK_pi1", b"A1P1", hashlib.sha256).digest()
    two = int_auth_step(Prf.HMAC_SHA2_256, b"SK_pi2", one, b"A2P2")
    assert two == hmac.new(b"SK_pi2", one + b"A2P2", hashlib.sha256).digest()
    assert int_auth(two, b"r", 3) == two + b"r" + bytes.fromhex("00000003")


def test_hash_algorithms():
    notify = hashes_notify()
    assert (notify.notify_type, notify.data) == (
        NotifyType.SIGNATURE_HASH_ALGORITHMS,
        bytes.fromhex("0002000300040005"),
    )
    assert hashes_of(notify) == set(SUPPORTED_HASHES)
    assert hashes_of(None) is None
    assert hashes_of(Notify(NotifyType.SIGNATURE_HASH_ALGORITHMS)) == frozenset()
    with pytest.raises(InvalidSyntax):
        hashes_of(Notify(NotifyType.SIGNATURE_HASH_ALGORITHMS, b"\0\2\0"))
