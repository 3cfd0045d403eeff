"""Certificates: files, chains and their check (RFC 5280 6.1 as far as RFC 4945 wants it), CERT and CERTREQ payloads."""
from collections.abc import Iterable, Sequence
from datetime import datetime

from cryptography import x509

from spigate.firmware_py.ike.identities import Identity
from spigate.firmware_py.ike.payloads import Cert, CertReq


def load_certificates(data: bytes, source: str) -> tuple[x509.Certificate, ...]:
    """All certificates of a PEM file, or the one of a DER file. ``source`` is named in InputError."""
    raise NotImplementedError


def load_private_key(data: bytes, source: str, password: bytes | None = None):
    """RSA, ECDSA or Ed25519, of PEM or DER. ``source`` is named in InputError, nothing of ``data`` is."""
    raise NotImplementedError


class Authorities:
    """The certification authorities that one trusts.

    Parameters
    ----------
    anchors : iterable of x509.Certificate
    max_depth : int
        Longest chain of intermediates.
    """

    def __init__(self, anchors: Iterable[x509.Certificate], *, max_depth: int = 4):
        raise NotImplementedError

    def request(self) -> CertReq:
        """CERTREQ with the hashes of all anchors' SubjectPublicKeyInfo."""
        raise NotImplementedError

    def verify(self, certs: Sequence[Cert], identity: Identity, now: datetime) -> x509.Certificate:
        """The end entity's certificate (the first of ``certs``), found good for ``identity`` at ``now`` (aware, UTC).

        Checked: signatures up to an anchor, validity of each, basic constraints and path length, key usage, extended
        key usage, critical extensions, name in subject or subjectAltName. Raises AuthenticationFailed that says why.
        """
        raise NotImplementedError


def is_asked_for(certificate: x509.Certificate, chain: Sequence[x509.Certificate], requests: Iterable[CertReq]) -> bool:
    """Whether a peer with these CERTREQs would trust the chain; also where it sent none."""
    raise NotImplementedError


def certs(chain: Iterable[x509.Certificate]) -> list[Cert]:
    """CERT payloads, end entity first."""
    raise NotImplementedError
