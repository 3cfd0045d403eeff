"""Who a peer says it is: identities of IDi and IDr (RFC 7296 3.5), from and to text, matched with what is expected."""
from dataclasses import dataclass

from cryptography import x509

from spigate.firmware_py.ike.payloads import Identification
from spigate.firmware_py.ike.registry import IdType


@dataclass(frozen=True)
class Identity:
    """An identity; equal where type and value are (host names and mail domains without regard to case).

    Members
    -------
    id_type : IdType
    data : bytes
        As in the payload.
    """

    id_type: IdType
    data: bytes

    @classmethod
    def parse(cls, text: str) -> "Identity":
        """``192.0.2.1``, ``2001:db8::1``, ``gw.example``, ``@gw.example`` (FQDN), ``user@example``, ``CN=gw,O=Example``
        (DN, RFC 4514 or strongSwan's order), ``keyid:00ff`` or ``@#00ff`` (KEY_ID, hex). Raises InputError."""
        raise NotImplementedError

    @classmethod
    def of(cls, payload: Identification) -> "Identity":
        """Raises InvalidSyntax where the data is not what the type demands, or the type is not known."""
        raise NotImplementedError

    def payload(self, kind: type[Identification]) -> Identification:
        """As ``IdI`` or ``IdR``."""
        raise NotImplementedError

    def matches(self, pattern: str) -> bool:
        """Whether it is the identity that ``pattern`` says, or one of those that it says: ``%any``, ``*.example``,
        ``*@example``, ``CN=*,O=Example``, a network (``192.0.2.0/24``)."""
        raise NotImplementedError

    def in_certificate(self, certificate: x509.Certificate) -> bool:
        """Whether a certificate speaks for it: its subject DN, or a subjectAltName of the same type (RFC 4945 3.1)."""
        raise NotImplementedError

    def __str__(self):
        raise NotImplementedError
