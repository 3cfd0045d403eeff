"""AUTH (RFC 7296 2.15, RFC 4754, RFC 7427, RFC 8420): what is signed, with what, and whether it is right."""
from collections.abc import Collection

from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes

from spigate.firmware_py.ike.payloads import Auth, Identification, Notify
from spigate.firmware_py.ike.registry import HashAlgorithm, Prf

SUPPORTED_HASHES: tuple[HashAlgorithm, ...] = (
    HashAlgorithm.SHA2_256, HashAlgorithm.SHA2_384, HashAlgorithm.SHA2_512, HashAlgorithm.IDENTITY)


def signed_octets(real_message: bytes, peer_nonce: bytes, prf: Prf, sk_p: bytes, identity: Identification,
                  int_auth: bytes = b"") -> bytes:
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
    raise NotImplementedError


def int_auth_step(prf: Prf, sk_p: bytes, previous: bytes, octets: bytes) -> bytes:
    """IntAuth_iN or IntAuth_rN (RFC 9242 3.3.1): of the one before (empty for the first) and ``int_auth_octets`` of
    the message; ``sk_p`` of the keys that protected it."""
    raise NotImplementedError


def int_auth(of_initiator: bytes, of_responder: bytes, ike_auth_message_id: int) -> bytes:
    """IntAuth: the last of both sides and the message ID of the first IKE_AUTH request."""
    raise NotImplementedError


def hashes_notify(hashes: Collection[HashAlgorithm] = SUPPORTED_HASHES) -> Notify:
    """SIGNATURE_HASH_ALGORITHMS."""
    raise NotImplementedError


def hashes_of(notify: Notify | None) -> frozenset[int] | None:
    """What the peer's SIGNATURE_HASH_ALGORITHMS says; None: the peer does not do RFC 7427. Raises InvalidSyntax."""
    raise NotImplementedError


def psk_auth(secret: bytes, prf: Prf, octets: bytes) -> Auth:
    """AUTH with a pre-shared key."""
    raise NotImplementedError


def verify_psk(auth: Auth, secret: bytes, prf: Prf, octets: bytes) -> None:
    """Raises AuthenticationFailed."""
    raise NotImplementedError


def sign(key: PrivateKeyTypes, octets: bytes, peer_hashes: Collection[int] | None) -> Auth:
    """AUTH with a signature: method 14 where the peer does RFC 7427 and has a hash for the key, else 1, 9, 10 or 11.

    Raises UnsupportedError where neither can be (Ed25519 and a peer without RFC 7427).
    """
    raise NotImplementedError


def verify_signature(auth: Auth, key: PublicKeyTypes, octets: bytes) -> None:
    """Raises AuthenticationFailed: method or algorithm is not the key's, hash is too weak, or the signature is wrong."""
    raise NotImplementedError
