# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Certificates: files, chains and their check (RFC 5280 6.1 as far as RFC 4945 wants it), CERT and CERTREQ
payloads.

``cryptography``'s own verifier is made for the Web: it refuses Ed25519. So the path is checked here, with
its parser and its signatures. All paths to an anchor are tried until one is good. What is critical and not
understood is refused, policy constraints among it. Revocation is not looked at.
"""

import hashlib
import warnings
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID

from spigate.firmware_py.errors import InputError
from spigate.firmware_py.ike.crypto.authentication import MIN_RSA_BITS
from spigate.firmware_py.ike.peers import name_constraints
from spigate.firmware_py.ike.peers.identities import Identity
from spigate.firmware_py.ike.wire.errors import AuthenticationFailed, PeerError
from spigate.firmware_py.ike.wire.payloads import Cert, CertReq
from spigate.firmware_py.ike.wire.registry import CertEncoding

MAX_CERTIFICATES = 16
"""CERT payloads that are looked at."""
MAX_SIGNATURES, MAX_STEPS = 64, 512
"""Signatures of certificates that are checked, and steps of the search for a path: a stranger may have made
the certificates.
"""
MAX_RSA_BITS = 8192
"""Of a key whose signatures are checked."""
_PROCESSED = frozenset(
    {
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
        ExtensionOID.CERTIFICATE_POLICIES,
        ExtensionOID.NAME_CONSTRAINTS,
    }
)
_PURPOSES = frozenset(
    {
        ExtendedKeyUsageOID.IPSEC_IKE,
        ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,
        ExtendedKeyUsageOID.SERVER_AUTH,
        ExtendedKeyUsageOID.CLIENT_AUTH,
        x509.ObjectIdentifier("1.3.6.1.5.5.8.2.2"),
    }
)  # iKEIntermediate, which some clients insist on
_UNREADABLE = (
    ValueError,
    TypeError,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
    UnsupportedAlgorithm,
)
"""What the parser raises, much of it only when a field is looked at."""
_X = TypeVar("_X", bound=x509.ExtensionType)
_HASHES = (hashes.SHA256, hashes.SHA384, hashes.SHA512)


def load_certificates(data: bytes, source: str) -> tuple[x509.Certificate, ...]:
    """All certificates of a PEM file, or the one of a DER file. ``source`` is named in InputError."""
    try:
        if b"-----BEGIN" in data:
            return tuple(x509.load_pem_x509_certificates(data))
        return (x509.load_der_x509_certificate(data),)
    except ValueError:
        raise InputError(f"{source}: expected certificates in PEM, or one in DER") from None


def load_private_key(data: bytes, source: str, password: bytes | None = None) -> PrivateKeyTypes:
    """RSA, ECDSA or Ed25519, of PEM or DER. ``source`` is named in InputError, nothing of ``data`` is."""
    load = serialization.load_pem_private_key if b"-----BEGIN" in data else serialization.load_der_private_key
    try:
        key = load(data, password)
    except TypeError:
        wanted = "a password" if password is None else "no password"
        raise InputError(f"{source}: expected {wanted} for this key") from None
    except (ValueError, UnsupportedAlgorithm):
        wanted = f"a private key in PEM or DER{' and its password' if password else ''}"
        raise InputError(f"{source}: expected {wanted}") from None
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey):
        raise InputError(f"{source}: expected a key for RSA, ECDSA or Ed25519")
    return key


def _spki_hash(certificate: x509.Certificate) -> bytes:
    spki = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha1(spki, usedforsecurity=False).digest()


def _label(certificate: x509.Certificate) -> str:
    return f"certificate {str(Identity.of_subject(certificate))!r}"


def _refuse(holds: bool, certificate: x509.Certificate, why: str) -> None:
    if not holds:
        raise _refusal(certificate, why)


def _refusal(certificate: x509.Certificate, why: str) -> AuthenticationFailed:
    return AuthenticationFailed(f"{_label(certificate)} {why}")


def _extension(certificate: x509.Certificate, kind: type[_X]) -> _X | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _check_any(certificate: x509.Certificate, now: datetime) -> None:
    """What holds for every certificate of a path."""
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    _refuse(begin <= now, certificate, f"is valid only from {begin}")
    _refuse(now <= end, certificate, f"was valid until {end}")
    for extension in certificate.extensions:
        _refuse(
            not extension.critical or extension.oid in _PROCESSED,
            certificate,
            f"has the critical extension {extension.oid.dotted_string}, which is not supported",
        )
    key = certificate.public_key()
    _refuse(
        not isinstance(key, rsa.RSAPublicKey) or key.key_size >= MIN_RSA_BITS,
        certificate,
        f"has an RSA key of less than {MIN_RSA_BITS} bits",
    )


def _check_authority(certificate: x509.Certificate, below: int) -> None:
    """What holds for one that issued another, with ``below`` authorities between it and the end entity."""
    constraints = _extension(certificate, x509.BasicConstraints)
    if constraints is None or not constraints.ca:
        raise _refusal(certificate, "is no authority's")
    limit = constraints.path_length
    _refuse(limit is None or below <= limit, certificate, f"allows {limit} authorities below it, not {below}")
    usage = _extension(certificate, x509.KeyUsage)
    _refuse(usage is None or usage.key_cert_sign, certificate, "is not for signing certificates")


def _check_end(certificate: x509.Certificate) -> None:
    """RFC 4945 5.1.3.2 and 5.1.3.12; besides IKE's own purposes those of TLS are taken, as other daemons
    do.
    """
    usage = _extension(certificate, x509.KeyUsage)
    _refuse(
        usage is None or usage.digital_signature or usage.content_commitment,
        certificate,
        "is not for signing",
    )
    purposes = _extension(certificate, x509.ExtendedKeyUsage)
    _refuse(
        purposes is None or not _PURPOSES.isdisjoint(purposes), certificate, "is for other purposes than IKE"
    )


def _issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether the signature is the issuer's, and with an algorithm that still means something."""
    if certificate.issuer != issuer.subject:
        return False
    digest = certificate.signature_hash_algorithm
    if not (digest is None or isinstance(digest, _HASHES)):
        return False
    try:
        key = issuer.public_key()
        if isinstance(key, rsa.RSAPublicKey) and key.key_size > MAX_RSA_BITS:
            return False
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


class Authorities:
    """The certification authorities that one trusts.

    Parameters
    ----------
    anchors : iterable of x509.Certificate
        An end entity's own certificate may be among them: it is then trusted as it is.
    max_depth : int
        Most intermediates in a path.
    """

    def __init__(self, anchors: Iterable[x509.Certificate], *, max_depth: int = 4):
        self._anchors, self._max_depth = tuple(anchors), max_depth

    def request(self) -> CertReq:
        """CERTREQ with the hashes of all anchors' SubjectPublicKeyInfo."""
        return CertReq(CertEncoding.X509_SIGNATURE, b"".join(dict.fromkeys(map(_spki_hash, self._anchors))))

    def verify(self, certs: Sequence[Cert], identity: Identity, now: datetime) -> x509.Certificate:
        """The end entity's certificate (the first of ``certs``), found good for ``identity`` at ``now``
        (aware, UTC).

        Checked: signatures up to an anchor, validity of each, basic constraints and path length, key usage,
        extended key usage, name constraints, critical extensions, name in subject or subjectAltName.

        Raises
        ------
        AuthenticationFailed
            Says why; of several paths that are not good, why the first is not.
        """
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # a stranger made them, and would write to standard error, as much as it likes
            return self._verify(certs, identity, now)

    def _verify(self, certs: Sequence[Cert], identity: Identity, now: datetime) -> x509.Certificate:
        try:
            parsed = [
                x509.load_der_x509_certificate(each.data)
                for each in certs[:MAX_CERTIFICATES]
                if each.encoding == CertEncoding.X509_SIGNATURE
            ]
            if not parsed:
                raise AuthenticationFailed("no X.509 certificate from the peer")
            end = parsed[0]
            self._check_paths(end, parsed[1:], now)
            _check_end(end)
            _refuse(identity.in_certificate(end), end, f"is not {str(identity)!r}'s")
        except AuthenticationFailed:
            raise
        except (*_UNREADABLE, PeerError):
            raise AuthenticationFailed("a certificate of the peer's cannot be read") from None
        return end

    def _check_paths(self, end: x509.Certificate, others: Sequence[x509.Certificate], now: datetime) -> None:
        """Whether one of the paths from ``end`` to an anchor is good. Raises AuthenticationFailed."""
        wrong: AuthenticationFailed | None = None
        for path in _Search(self._anchors, others, self._max_depth, now).paths(end):
            try:
                self._check_path(path, now)
                return
            except AuthenticationFailed as error:
                wrong = wrong or error
        assert wrong is not None  # the search raises where it finds no path
        raise wrong

    def _check_path(self, path: Sequence[x509.Certificate], now: datetime) -> None:
        for certificate in path:
            _check_any(certificate, now)
        below = 0
        for certificate in path[1:]:
            _check_authority(certificate, below)
            below += certificate.issuer != certificate.subject
        refused = name_constraints.broken(path)
        if refused is not None:
            raise _refusal(refused, "has a name that an authority above it may not vouch for")


class _Search:
    """Paths from an end entity to one of ``anchors`` by way of ``others``, those that are valid ``now``
    first. A certificate of the peer's stands in a path once; signatures and steps are bounded.
    """

    def __init__(
        self,
        anchors: Iterable[x509.Certificate],
        others: Iterable[x509.Certificate],
        max_depth: int,
        now: datetime,
    ):
        def late(each: x509.Certificate) -> bool:
            return not each.not_valid_before_utc <= now <= each.not_valid_after_utc

        self._anchors = sorted(anchors, key=late)
        self._others = sorted(dict.fromkeys(others), key=late)
        self._max_depth = max_depth
        self._known: dict[tuple[x509.Certificate, x509.Certificate], bool] = {}
        self._steps = 0
        self._longest: list[x509.Certificate] = []
        self._too_deep = False

    def paths(self, end: x509.Certificate) -> Iterator[list[x509.Certificate]]:
        """In the order in which they are found. Raises AuthenticationFailed where there are none."""
        found = False
        for path in self._from([end]):
            found = True
            yield path
        _refuse(
            found or not self._too_deep,
            end,
            f"has more than {self._max_depth} authorities between it and one that is trusted",
        )
        _refuse(found, self._longest[-1], "is of an issuer that is not trusted")

    def _from(self, path: list[x509.Certificate]) -> Iterator[list[x509.Certificate]]:
        if path[-1] in self._anchors:
            yield path
            return
        self._steps += 1
        self._longest = max(self._longest, path, key=len)
        for issuer in self._anchors:
            if self._issued(path[-1], issuer):
                yield [*path, issuer]
        for issuer in self._others:
            if self._steps < MAX_STEPS and issuer not in path and self._issued(path[-1], issuer):
                if len(path) > self._max_depth:
                    self._too_deep = True
                    return
                yield from self._from([*path, issuer])

    def _issued(self, certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
        if certificate.issuer != issuer.subject:
            return False
        pair = certificate, issuer
        if pair not in self._known:  # each signature once
            self._known[pair] = len(self._known) < MAX_SIGNATURES and _issued(certificate, issuer)
        return self._known[pair]


def is_asked_for(
    certificate: x509.Certificate, chain: Sequence[x509.Certificate], requests: Iterable[CertReq]
) -> bool:
    """Whether a peer with these CERTREQs would trust ``certificate`` with ``chain``, as far as one can
    know: it named one of them, or sent no request.
    """
    requests = [each for each in requests if each.encoding == CertEncoding.X509_SIGNATURE]
    hashes_ = {each.data[at : at + 20] for each in requests for at in range(0, len(each.data), 20)}
    return not hashes_ or any(_spki_hash(each) in hashes_ for each in (certificate, *chain))


def certs(chain: Iterable[x509.Certificate]) -> list[Cert]:
    """CERT payloads, end entity first."""
    return [Cert(CertEncoding.X509_SIGNATURE, each.public_bytes(Encoding.DER)) for each in chain]
