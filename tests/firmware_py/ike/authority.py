"""A certification authority for tests."""
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.x509.oid import NameOID

FROM = datetime(2026, 1, 1, tzinfo=UTC)
TO = datetime(2027, 1, 1, tzinfo=UTC)
SIGNING = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
CERTIFYING = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
NAMES = (x509.DNSName("gw.example"), x509.RFC822Name("u@gw.example"), x509.IPAddress(ip_address("192.0.2.1")),
         x509.IPAddress(ip_address("2001:db8::1")))


def name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COUNTRY_NAME, "CH"), x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Example"),
                      x509.NameAttribute(NameOID.COMMON_NAME, common)])


class Authority:
    """One that issues what it is told to. Without ``issuer`` it is a root.

    ``extensions`` are pairs of an extension and whether it is critical.
    """

    def __init__(self, key, common: str = "root", issuer: "Authority | None" = None, *, extensions=None, **dates):
        self.key, self.subject = key, name(common)
        if extensions is None:
            extensions = ((x509.BasicConstraints(True, None), True), (CERTIFYING, True))
        issuing = issuer or self
        self.certificate = issuing.issue(key.public_key(), common, extensions=extensions, **dates)

    def issue(self, key, common: str = "gw", *, extensions=((x509.SubjectAlternativeName(NAMES), False), (SIGNING, True)),
              not_before: datetime = FROM, not_after: datetime = TO) -> x509.Certificate:
        builder = (x509.CertificateBuilder().subject_name(name(common)).issuer_name(self.subject).public_key(key)
                   .serial_number(x509.random_serial_number()).not_valid_before(not_before).not_valid_after(not_after))
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        return builder.sign(self.key, None if isinstance(self.key, ed25519.Ed25519PrivateKey) else hashes.SHA256())


DAY = timedelta(days=1)
