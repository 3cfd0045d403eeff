# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Name constraints of authorities (RFC 5280 4.2.1.10, 6.1.3 b and c, 6.1.4 g), critical or not.

Processed are the forms of names that IKE's identities have: distinguished names, host names, mail addresses
and IP addresses. A constraint on any other form refuses whoever has a name of that form (6.1.4: process or
reject).
"""

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network
from typing import TypeVar

from cryptography import x509
from cryptography.x509.oid import NameOID

from spigate.firmware_py.ike.peers.identities import distinguished_name, folded

_X = TypeVar("_X", bound=x509.ExtensionType)
_PROCESSED = (x509.DirectoryName, x509.DNSName, x509.RFC822Name, x509.IPAddress)


def broken(path: Sequence[x509.Certificate]) -> x509.Certificate | None:
    """The first certificate of ``path``, end entity first, whose names an authority above it does not
    allow; None: all are allowed. Those of the anchor hold too (RFC 5937).

    Raises
    ------
    ValueError, PeerError
        A name or a constraint cannot be read.
    """
    permitted: list[Sequence[x509.GeneralName]] = []
    excluded: list[x509.GeneralName] = []
    for above, certificate in enumerate(reversed(path)):
        is_end, self_issued = certificate is path[0], certificate.issuer == certificate.subject
        if (
            above
            and (is_end or not self_issued)
            and not all(_allowed(each, permitted, excluded) for each in _names(certificate))
        ):
            return certificate
        constraints = _extension(certificate, x509.NameConstraints)
        if constraints is not None:
            permitted.append(constraints.permitted_subtrees or ())
            excluded += constraints.excluded_subtrees or ()
    return None


def _extension(certificate: x509.Certificate, kind: type[_X]) -> _X | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _names(certificate: x509.Certificate) -> list[x509.GeneralName]:
    """All names of a certificate. A mail address in the subject counts where there is no subjectAltName
    (4.2.1.10).
    """
    others = _extension(certificate, x509.SubjectAlternativeName)
    names = (
        list(others)
        if others is not None
        else [_mailbox(each) for each in certificate.subject.get_attributes_for_oid(NameOID.EMAIL_ADDRESS)]
    )
    return [*names, *([x509.DirectoryName(certificate.subject)] if list(certificate.subject) else [])]


def _mailbox(attribute: x509.NameAttribute[str | bytes]) -> x509.RFC822Name:
    if not isinstance(attribute.value, str):
        raise ValueError("a mail address that is no text")
    return x509.RFC822Name(attribute.value)


def _allowed(
    name: x509.GeneralName,
    permitted: Sequence[Sequence[x509.GeneralName]],
    excluded: Sequence[x509.GeneralName],
) -> bool:
    def among(subtrees: Sequence[x509.GeneralName]) -> bool:
        return any(_within(name, base) for base in subtrees if type(base) is type(name))

    about = [[base for base in subtrees if type(base) is type(name)] for subtrees in (*permitted, excluded)]
    if type(name) not in _PROCESSED:
        return not any(about)
    return not among(excluded) and all(among(subtrees) for subtrees in about[:-1] if subtrees)


def _within(name: x509.GeneralName, base: x509.GeneralName) -> bool:
    if isinstance(name, x509.DirectoryName) and isinstance(base, x509.DirectoryName):
        return _directory(name.value, base.value)
    if isinstance(name, x509.DNSName) and isinstance(base, x509.DNSName):
        return _host(name.value, base.value)
    if isinstance(name, x509.RFC822Name) and isinstance(base, x509.RFC822Name):
        return _mail(name.value, base.value)
    if isinstance(name, x509.IPAddress) and isinstance(base, x509.IPAddress):
        return isinstance(base.value, IPv4Network | IPv6Network) and name.value in base.value
    return False


def _directory(name: x509.Name, base: x509.Name) -> bool:
    parts, prefix = (folded(distinguished_name(each.public_bytes())) for each in (name, base))
    return parts[: len(prefix)] == prefix


def _host(name: str, base: str) -> bool:
    """A host name is within itself and what has more labels in front; within ``.example`` only the latter
    are.
    """
    name, base = name.lower().rstrip("."), base.lower().rstrip(".")
    return not base or name.endswith(base if base.startswith(".") else f".{base}") or name == base


def _mail(name: str, base: str) -> bool:
    """One mailbox, all of one host, or, with a dot in front, all of the hosts in a domain."""
    name, base = name.lower(), base.lower()
    host = name.rpartition("@")[2]
    if "@" in base:
        return name == base
    return host.endswith(base) if base.startswith(".") else host == base
