# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Certification authorities for tests."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

FROM = datetime(2026, 1, 1, tzinfo=UTC)
TO = datetime(2027, 1, 1, tzinfo=UTC)
SIGNING = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
CERTIFYING = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
NAMES = (
    x509.DNSName("gw.example"),
    x509.RFC822Name("u@gw.example"),
    x509.IPAddress(ip_address("192.0.2.1")),
    x509.IPAddress(ip_address("2001:db8::1")),
)


def name(common: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.COUNTRY_NAME, "CH"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Example"),
            x509.NameAttribute(NameOID.COMMON_NAME, common),
        ]
    )


class Authority:
    """One that issues what it is told to. Without ``issuer`` it is a root.

    ``extensions`` are pairs of an extension and whether it is critical.
    """

    def __init__(
        self, key, common: str = "root", issuer: "Authority | None" = None, *, extensions=None, **dates
    ):
        self.key, self.subject = key, name(common)
        if extensions is None:
            extensions = ((x509.BasicConstraints(True, None), True), (CERTIFYING, True))
        issuing = issuer or self
        self.certificate = issuing.issue(key.public_key(), common, extensions=extensions, **dates)

    def issue(
        self,
        key,
        common: str = "gw",
        *,
        extensions=((x509.SubjectAlternativeName(NAMES), False), (SIGNING, True)),
        not_before: datetime = FROM,
        not_after: datetime = TO,
    ) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .subject_name(name(common))
            .issuer_name(self.subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(not_before)
            .not_valid_after(not_after)
        )
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        return builder.sign(
            self.key, None if isinstance(self.key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
        )


DAY = timedelta(days=1)
MAKERS = {
    "rsa": lambda: rsa.generate_private_key(65537, 2048),
    "ecdsa256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "ecdsa384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "ecdsa521": lambda: ec.generate_private_key(ec.SECP521R1()),
    "ed25519": ed25519.Ed25519PrivateKey.generate,
}
"""Of keys of every kind that IKE signs with."""


@dataclass(frozen=True)
class Chain:
    """A host's key, and the certificates from its own up to the root's."""

    key: PrivateKeyTypes
    own: x509.Certificate
    middle: x509.Certificate
    root: x509.Certificate

    def write(self, folder: Path) -> None:
        """Where swanctl looks for them: x509/own.pem, x509ca/middle.pem and root.pem, private/own.pem."""
        for path, certificate in (
            ("x509/own.pem", self.own),
            ("x509ca/middle.pem", self.middle),
            ("x509ca/root.pem", self.root),
        ):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(certificate.public_bytes(Encoding.PEM))
        key = folder / "private/own.pem"
        key.parent.mkdir(exist_ok=True)
        key.write_bytes(self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        key.chmod(0o600)


def chains(kind: str, *hosts: str) -> tuple[Chain, ...]:
    """Of ``hosts``, under one root, with keys of a kind of :data:`MAKERS`, valid today."""
    dates = {"not_before": datetime.now(UTC) - DAY, "not_after": datetime.now(UTC) + 10 * DAY}
    root = Authority(MAKERS[kind](), "root", **dates)
    middle = Authority(MAKERS[kind](), "middle", root, **dates)

    def chain(host: str) -> Chain:
        key = MAKERS[kind]()
        names = x509.SubjectAlternativeName([x509.DNSName(host)])
        own = middle.issue(key.public_key(), host, extensions=((names, False), (SIGNING, True)), **dates)
        return Chain(key, own, middle.certificate, root.certificate)

    return tuple(map(chain, hosts))
