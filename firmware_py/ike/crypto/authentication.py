# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""AUTH (RFC 7296 2.15, RFC 4754, RFC 7427, RFC 8420): what is signed, with what, and whether it is right."""

import hmac
from collections.abc import Collection, Iterable, Mapping
from typing import TypeVar

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from spigate.firmware_py.errors import UnsupportedError
from spigate.firmware_py.ike.crypto import keys
from spigate.firmware_py.ike.wire.errors import AuthenticationFailed, InvalidSyntax
from spigate.firmware_py.ike.wire.payloads import Auth, Identification, Notify
from spigate.firmware_py.ike.wire.registry import AuthMethod, HashAlgorithm, NotifyType, Prf, label
from spigate.firmware_py.words import counted

SUPPORTED_HASHES: tuple[HashAlgorithm, ...] = (
    HashAlgorithm.SHA2_256,
    HashAlgorithm.SHA2_384,
    HashAlgorithm.SHA2_512,
    HashAlgorithm.IDENTITY,
)
_H = TypeVar("_H", HashAlgorithm, None)
KEY_PAD = b"Key Pad for IKEv2"
MIN_RSA_BITS = 2048
_HASHES = {
    HashAlgorithm.SHA2_256: hashes.SHA256(),
    HashAlgorithm.SHA2_384: hashes.SHA384(),
    HashAlgorithm.SHA2_512: hashes.SHA512(),
}
_CURVES = {
    "secp256r1": (AuthMethod.ECDSA_256, HashAlgorithm.SHA2_256, 32),
    "secp384r1": (AuthMethod.ECDSA_384, HashAlgorithm.SHA2_384, 48),
    "secp521r1": (AuthMethod.ECDSA_521, HashAlgorithm.SHA2_512, 66),
}
"""Without RFC 7427 a curve has its one method and hash, and r and s have its length (RFC 4754)."""

# AlgorithmIdentifiers, RFC 7427 appendix A and RFC 8420
_RSA = {HashAlgorithm.SHA2_256: 0x0B, HashAlgorithm.SHA2_384: 0x0C, HashAlgorithm.SHA2_512: 0x0D}
PKCS1 = {
    hash_: bytes.fromhex("300d06092a864886f70d0101") + bytes([last]) + b"\5\0" for hash_, last in _RSA.items()
}
ECDSA = {hash_: bytes.fromhex("300a06082a8648ce3d0403") + bytes([hash_]) for hash_ in _HASHES}
ED25519 = bytes.fromhex("300506032b6570")


def _tagged(tag: int, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return bytes([tag, len(body)]) + body


def _pss(hash_: HashAlgorithm, null: bytes = b"\5\0", trailer: bytes = b"") -> bytes:
    digest = _tagged(0x30, bytes.fromhex("06096086480165030402") + bytes([hash_ - 1]), null)
    mask = _tagged(0x30, bytes.fromhex("06092a864886f70d010108"), digest)
    salt = _tagged(2, bytes([_HASHES[hash_].digest_size]))
    return _tagged(
        0x30,
        bytes.fromhex("06092a864886f70d01010a"),
        _tagged(0x30, _tagged(0xA0, digest), _tagged(0xA1, mask), _tagged(0xA2, salt), trailer),
    )


PSS = {hash_: _pss(hash_) for hash_ in _HASHES}
_PSS_FORMS = {
    _pss(hash_, null, trailer): hash_
    for hash_ in _HASHES
    for null in (b"\5\0", b"")
    for trailer in (b"", bytes.fromhex("a303020101"))
}
"""All that peers write: parameters of the hash absent or NULL, the trailer field absent or the default."""


def signed_octets(
    real_message: bytes,
    peer_nonce: bytes,
    prf: Prf,
    sk_p: bytes,
    identity: Identification,
    int_auth: bytes = b"",
) -> bytes:
    """InitiatorSignedOctets or ResponderSignedOctets.

    Parameters
    ----------
    real_message : bytes
        The signer's own IKE_SA_INIT message, as it was on the wire.
    peer_nonce : bytes
        Data of the other side's nonce.
    sk_p : bytes
        SK_pi for the initiator's, SK_pr for the responder's.
    identity : IdI or IdR
        The signer's payload.
    int_auth : bytes
        From :func:`int_auth`, where there were IKE_INTERMEDIATE exchanges.
    """
    return real_message + peer_nonce + keys.prf(prf, sk_p, identity.body()) + int_auth


def int_auth_step(prf: Prf, sk_p: bytes, previous: bytes, octets: bytes) -> bytes:
    """IntAuth_iN or IntAuth_rN (RFC 9242 3.3.1): of the one before (empty for the first) and
    ``int_auth_octets`` of the message; ``sk_p`` of the keys that protected it.
    """
    return keys.prf(prf, sk_p, previous + octets)


def int_auth(of_initiator: bytes, of_responder: bytes, ike_auth_message_id: int) -> bytes:
    """IntAuth: the last of both sides and the message ID of the first IKE_AUTH request."""
    return of_initiator + of_responder + ike_auth_message_id.to_bytes(4)


def hashes_notify(hashes: Collection[HashAlgorithm] = SUPPORTED_HASHES) -> Notify:
    """SIGNATURE_HASH_ALGORITHMS."""
    return Notify(NotifyType.SIGNATURE_HASH_ALGORITHMS, b"".join(each.to_bytes(2) for each in hashes))


def hashes_of(notify: Notify | None) -> frozenset[int] | None:
    """What the peer's SIGNATURE_HASH_ALGORITHMS says; None: the peer does not do RFC 7427. Raises
    InvalidSyntax.
    """
    if notify is None:
        return None
    if len(notify.data) % 2:
        raise InvalidSyntax(f"SIGNATURE_HASH_ALGORITHMS of {counted(len(notify.data), 'byte')}")
    return frozenset(int.from_bytes(notify.data[at : at + 2]) for at in range(0, len(notify.data), 2))


def psk_auth(secret: bytes, prf: Prf, octets: bytes) -> Auth:
    """AUTH with a pre-shared key."""
    return Auth(AuthMethod.PSK, keys.prf(prf, keys.prf(prf, secret, KEY_PAD), octets))


def verify_psk(auth: Auth, secret: bytes, prf: Prf, octets: bytes) -> None:
    """Raises AuthenticationFailed."""
    if auth.method != AuthMethod.PSK:
        raise AuthenticationFailed(f"{label(AuthMethod, auth.method)} where a pre-shared key is expected")
    if not hmac.compare_digest(auth.data, psk_auth(secret, prf, octets).data):
        raise AuthenticationFailed("the peer's pre-shared key is another one")


def _common_hash(preferred: HashAlgorithm, peer_hashes: Collection[int]) -> HashAlgorithm | None:
    return next((each for each in (preferred, *_HASHES) if each in peer_hashes), None)


def _signature_auth(algorithm: bytes, signature: bytes) -> Auth:
    return Auth(AuthMethod.DIGITAL_SIGNATURE, bytes([len(algorithm)]) + algorithm + signature)


def _salt(hash_: hashes.HashAlgorithm) -> padding.PSS:
    return padding.PSS(padding.MGF1(hash_), hash_.digest_size)


def sign(
    key: PrivateKeyTypes, octets: bytes, peer_hashes: Collection[int] | None, *, pss: bool = True
) -> Auth:
    """AUTH with a signature: method 14 where the peer does RFC 7427 and has a hash for the key, else 1, 9,
    10 or 11.

    RSA signs with PSS (RFC 8247 3.2) or, without ``pss``, with PKCS #1 v1.5; under method 1 with SHA-1,
    which is all that peers without RFC 7427 are sure to know.

    Raises
    ------
    UnsupportedError
        Neither can be: Ed25519 and a peer without RFC 7427, or another kind of key.
    """
    peer_hashes = peer_hashes or ()
    if isinstance(key, rsa.RSAPrivateKey):
        chosen = _common_hash(HashAlgorithm.SHA2_256, peer_hashes)
        if chosen is None:
            return Auth(AuthMethod.RSA, key.sign(octets, padding.PKCS1v15(), hashes.SHA1()))
        scheme = _salt(_HASHES[chosen]) if pss else padding.PKCS1v15()
        return _signature_auth((PSS if pss else PKCS1)[chosen], key.sign(octets, scheme, _HASHES[chosen]))
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name in _CURVES:
        method, preferred, size = _CURVES[key.curve.name]
        chosen = _common_hash(preferred, peer_hashes)
        if chosen is not None:
            return _signature_auth(ECDSA[chosen], key.sign(octets, ec.ECDSA(_HASHES[chosen])))
        r, s = decode_dss_signature(key.sign(octets, ec.ECDSA(_HASHES[preferred])))
        return Auth(method, r.to_bytes(size) + s.to_bytes(size))
    if isinstance(key, ed25519.Ed25519PrivateKey):
        if HashAlgorithm.IDENTITY not in peer_hashes:
            raise UnsupportedError("The peer does not know Ed25519: it announced no identity hash (RFC 8420)")
        return _signature_auth(ED25519, key.sign(octets))
    raise UnsupportedError(f"IKE does not sign with {type(key).__name__}")


def verify_signature(
    auth: Auth, key: PublicKeyTypes, octets: bytes, peer_hashes: Collection[int] | None = None
) -> None:
    """Whether AUTH is the signature of ``octets`` under ``key``, of a peer whose SIGNATURE_HASH_ALGORITHMS
    says ``peer_hashes``. Who does RFC 7427 has no need of SHA-1, and is refused with it (RFC 8247 3.2).

    Raises
    ------
    AuthenticationFailed
        Method or algorithm is not the key's, hash or key is too weak, or the signature is wrong.
    """
    try:
        if isinstance(key, rsa.RSAPublicKey):
            _verify_rsa(
                auth, key, octets, (*_HASHES.values(), *([hashes.SHA1()] if peer_hashes is None else []))
            )
        elif isinstance(key, ec.EllipticCurvePublicKey):
            _verify_ecdsa(auth, key, octets)
        elif isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(_of_algorithm(auth, {ED25519: None})[1], octets)
        else:
            raise AuthenticationFailed(f"IKE does not verify with {type(key).__name__}")
    except InvalidSignature:
        raise AuthenticationFailed("signature is wrong") from None


def _of_algorithm(auth: Auth, algorithms: Mapping[bytes, _H]) -> tuple[_H, bytes]:
    """Hash and signature of method 14, whose AlgorithmIdentifier must be one of ``algorithms``."""
    if auth.method != AuthMethod.DIGITAL_SIGNATURE:
        raise AuthenticationFailed(f"{label(AuthMethod, auth.method)} does not go with the peer's key")
    end = 1 + auth.data[0] if auth.data else 0
    algorithm = auth.data[1:end]
    if algorithm not in algorithms:
        raise AuthenticationFailed(
            f"signature algorithm {algorithm.hex()} is too weak or not of the peer's key"
        )
    return algorithms[algorithm], auth.data[end:]


def _verify_rsa(
    auth: Auth, key: rsa.RSAPublicKey, octets: bytes, for_pkcs1: Iterable[hashes.HashAlgorithm]
) -> None:
    if key.key_size < MIN_RSA_BITS:
        raise AuthenticationFailed(
            f"RSA key of {key.key_size} bits, where at least {MIN_RSA_BITS} are expected"
        )
    if auth.method == AuthMethod.RSA:
        for each in for_pkcs1:  # the signature says which, inside
            try:
                return key.verify(auth.data, octets, padding.PKCS1v15(), each)
            except InvalidSignature:
                continue
        raise InvalidSignature
    forms = {**_PSS_FORMS, **{algorithm: hash_ for hash_, algorithm in PKCS1.items()}}
    hash_, signature = _of_algorithm(auth, forms)
    is_pss = auth.data[1 : 1 + auth.data[0]] in _PSS_FORMS
    key.verify(signature, octets, _salt(_HASHES[hash_]) if is_pss else padding.PKCS1v15(), _HASHES[hash_])


def _verify_ecdsa(auth: Auth, key: ec.EllipticCurvePublicKey, octets: bytes) -> None:
    if key.curve.name not in _CURVES:
        raise AuthenticationFailed(f"IKE does not verify with curve {key.curve.name}")
    method, hash_, size = _CURVES[key.curve.name]
    if auth.method == method:
        if len(auth.data) != 2 * size:
            raise AuthenticationFailed(
                f"signature of {counted(len(auth.data), 'byte')}, where {2 * size} are expected"
            )
        signature = encode_dss_signature(int.from_bytes(auth.data[:size]), int.from_bytes(auth.data[size:]))
    else:
        hash_, signature = _of_algorithm(auth, {algorithm: hash_ for hash_, algorithm in ECDSA.items()})
    key.verify(signature, octets, ec.ECDSA(_HASHES[hash_]))
