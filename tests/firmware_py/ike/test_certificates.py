# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Certificates: NIST's PKITS for the path, and chains of our own for what IKE wants besides."""

import warnings
from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import ip_address, ip_network
from itertools import permutations
from pathlib import Path

import cryptography_vectors
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from spigate.firmware_py.errors import InputError
from spigate.firmware_py.ike.peers import certificates
from spigate.firmware_py.ike.peers.certificates import (
    Authorities,
    certs,
    is_asked_for,
    load_certificates,
    load_private_key,
)
from spigate.firmware_py.ike.peers.identities import Identity
from spigate.firmware_py.ike.wire.errors import AuthenticationFailed
from spigate.firmware_py.ike.wire.payloads import Cert
from spigate.firmware_py.ike.wire.registry import CertEncoding, IdType
from tests.firmware_py.ike.authority import CERTIFYING, DAY, FROM, MAKERS, NAMES, SIGNING, TO, Authority
from tests.firmware_py.ike.work import lines

NOW = datetime(2026, 6, 1, tzinfo=UTC)
PKITS = Path(cryptography_vectors.__file__).parent / "x509" / "PKITS_data" / "certs"
GATEWAY = Identity.parse("gw.example")
KEY = ec.generate_private_key(ec.SECP256R1())
ROOT = Authority(KEY)


def _pkits(name: str) -> x509.Certificate:
    return load_certificates((PKITS / f"{name}.crt").read_bytes(), name)[0]


SIX = "pathLenConstraint6subsubsubCA{0}XCert pathLenConstraint6subsubCA{0}Cert pathLenConstraint6subCA{1}Cert pathLenConstraint6CACert"
# PKITS 4.1, 4.2, 4.3, 4.6, 4.7, 4.16: the end entity, and its authorities below the trust anchor
VALID = {
    "ValidCertificatePathTest1EE": "GoodCACert",
    "Validpre2000UTCnotBeforeDateTest3EE": "GoodCACert",
    "ValidGeneralizedTimenotBeforeDateTest4EE": "GoodCACert",
    "ValidGeneralizedTimenotAfterDateTest8EE": "GoodCACert",
    "ValidbasicConstraintsNotCriticalTest4EE": "basicConstraintsNotCriticalCACert",
    "ValidpathLenConstraintTest7EE": "pathLenConstraint0CACert",
    "ValidpathLenConstraintTest8EE": "pathLenConstraint0CACert",
    "ValidpathLenConstraintTest13EE": SIX.format(41, 4),
    "ValidpathLenConstraintTest14EE": SIX.format(41, 4),
    "ValidSelfIssuedpathLenConstraintTest15EE": "pathLenConstraint0SelfIssuedCACert pathLenConstraint0CACert",
    "ValidSelfIssuedpathLenConstraintTest17EE": "pathLenConstraint1SelfIssuedsubCACert pathLenConstraint1subCACert "
    "pathLenConstraint1SelfIssuedCACert pathLenConstraint1CACert",
    "ValidkeyUsageNotCriticalTest3EE": "keyUsageNotCriticalCACert",
    "ValidUnknownNotCriticalCertificateExtensionTest1EE": "",
}
INVALID = {
    "InvalidCASignatureTest2EE": ("BadSignedCACert", "not trusted"),
    "InvalidEESignatureTest3EE": ("GoodCACert", "not trusted"),
    "InvalidCAnotBeforeDateTest1EE": ("BadnotBeforeDateCACert", "valid only from"),
    "InvalidEEnotBeforeDateTest2EE": ("GoodCACert", "valid only from"),
    "InvalidCAnotAfterDateTest5EE": ("BadnotAfterDateCACert", "was valid until"),
    "InvalidEEnotAfterDateTest6EE": ("GoodCACert", "was valid until"),
    "Invalidpre2000UTCEEnotAfterDateTest7EE": ("GoodCACert", "was valid until"),
    "InvalidNameChainingTest1EE": ("GoodCACert", "not trusted"),
    "InvalidNameChainingOrderTest2EE": ("NameOrderingCACert", "not trusted"),
    "InvalidMissingbasicConstraintsTest1EE": ("MissingbasicConstraintsCACert", "is no authority's"),
    "InvalidcAFalseTest2EE": ("basicConstraintsCriticalcAFalseCACert", "is no authority's"),
    "InvalidcAFalseTest3EE": ("basicConstraintsNotCriticalcAFalseCACert", "is no authority's"),
    "InvalidpathLenConstraintTest5EE": (
        "pathLenConstraint0subCACert pathLenConstraint0CACert",
        "allows 0 authorities",
    ),
    "InvalidpathLenConstraintTest6EE": (
        "pathLenConstraint0subCACert pathLenConstraint0CACert",
        "allows 0 authorities",
    ),
    "InvalidpathLenConstraintTest9EE": (
        "pathLenConstraint6subsubCA00Cert pathLenConstraint6subCA0Cert pathLenConstraint6CACert",
        "allows 0 authorities",
    ),
    "InvalidpathLenConstraintTest11EE": (SIX.format(11, 1), "allows [01] authorities"),
    "InvalidpathLenConstraintTest12EE": (SIX.format(11, 1), "allows [01] authorities"),
    "InvalidSelfIssuedpathLenConstraintTest16EE": (
        "pathLenConstraint0subCA2Cert pathLenConstraint0SelfIssuedCACert pathLenConstraint0CACert",
        "allows 0 authorities",
    ),
    "InvalidkeyUsageCriticalkeyCertSignFalseTest1EE": (
        "keyUsageCriticalkeyCertSignFalseCACert",
        "not for signing certificates",
    ),
    "InvalidkeyUsageNotCriticalkeyCertSignFalseTest2EE": (
        "keyUsageNotCriticalkeyCertSignFalseCACert",
        "not for signing certificates",
    ),
    "InvalidUnknownCriticalCertificateExtensionTest2EE": ("", "critical extension"),
}


def _verify_pkits(end: str, authorities: str) -> x509.Certificate:
    chain = [_pkits(end), *map(_pkits, authorities.split())]
    return Authorities([_pkits("TrustAnchorRootCertificate")]).verify(
        certs(chain), Identity.of_subject(chain[0]), NOW
    )


@pytest.mark.parametrize(("end", "authorities"), VALID.items())
def test_pkits_valid(end, authorities):
    assert _verify_pkits(end, authorities) == _pkits(end)


@pytest.mark.parametrize(("end", "expected"), INVALID.items())
def test_pkits_invalid(end, expected):
    authorities, why = expected
    with pytest.raises(AuthenticationFailed, match=why):
        _verify_pkits(end, authorities)


# PKITS 4.13, all of it: numbers of tests, and the authorities of their paths. Names of resources (URIs) are
# of no use to IKE and not processed, so that whoever has one under such a constraint is refused.
CONSTRAINED = {
    "DN1CACert": "v1 i2 i3 v4 i20",
    "DN2CACert": "v5",
    "DN3CACert": "v6 i7",
    "DN4CACert": "i8 i9",
    "DN5CACert": "i10 v11",
    "DN1subCA1Cert DN1CACert": "i12",
    "DN1subCA2Cert DN1CACert": "i13 v14",
    "DN3subCA1Cert DN3CACert": "i15 i16",
    "DN3subCA2Cert DN3CACert": "i17 v18",
    "DN1SelfIssuedCACert DN1CACert": "v19",
    "RFC822CA1Cert": "v21 i22",
    "RFC822CA2Cert": "v23 i24",
    "RFC822CA3Cert": "v25 i26",
    "DN1subCA3Cert DN1CACert": "v27 i28 i29",
    "DNS1CACert": "v30 i31 i38",
    "DNS2CACert": "v32 i33",
    "URI1CACert": "i34 i35",
    "URI2CACert": "i36 i37",
}


@pytest.mark.parametrize(
    ("authorities", "test"), [(chain, each) for chain, tests in CONSTRAINED.items() for each in tests.split()]
)
def test_pkits_name_constraints(authorities, test):
    (end,) = (path.stem for path in PKITS.glob(f"*ameConstraintsTest{test[1:]}EE.crt"))
    chain = " ".join(f"nameConstraints{each}" for each in authorities.split())
    if test[0] == "v":
        assert _verify_pkits(end, chain) == _pkits(end)
    else:
        with pytest.raises(AuthenticationFailed, match="may not vouch for"):
            _verify_pkits(end, chain)


def verify(
    certificate: x509.Certificate,
    *others: x509.Certificate,
    identity=GATEWAY,
    now=NOW,
    anchors=(ROOT,),
    **options,
):
    return Authorities([each.certificate for each in anchors], **options).verify(
        certs([certificate, *others]), identity, now
    )


@pytest.mark.parametrize(
    "key",
    [
        KEY,
        ec.generate_private_key(ec.SECP521R1()),
        ed25519.Ed25519PrivateKey.generate(),
        rsa.generate_private_key(65537, 2048),
    ],
    ids=lambda key: type(key).__name__,
)
def test_every_kind_of_key(key):
    root = Authority(key)
    middle = Authority(key, "middle", root)
    end = middle.issue(key.public_key())
    assert verify(end, middle.certificate, anchors=[root]) == end
    for identity in ("u@gw.example", "192.0.2.1", "2001:db8::1", "C=CH, O=Example, CN=gw"):
        assert verify(end, middle.certificate, anchors=[root], identity=Identity.parse(identity)) == end
    with pytest.raises(AuthenticationFailed, match="is not 'other.example''s"):
        verify(end, middle.certificate, anchors=[root], identity=Identity.parse("other.example"))
    with pytest.raises(AuthenticationFailed, match="not trusted"):
        verify(end, anchors=[root])


def test_moments():
    end = ROOT.issue(KEY.public_key())
    for now in (FROM, TO):
        verify(end, now=now)
    with pytest.raises(AuthenticationFailed, match="valid only from"):
        verify(end, now=FROM - DAY)
    with pytest.raises(AuthenticationFailed, match="was valid until"):
        verify(end, now=TO + DAY)
    old = Authority(KEY, not_after=NOW - DAY)
    with pytest.raises(AuthenticationFailed, match="was valid until"):
        verify(end, anchors=[old])
    verify(end, anchors=[old, ROOT])  # the same authority, renewed


@pytest.mark.parametrize(
    ("extensions", "why"),
    [
        (((SIGNING, True),), None),
        (((x509.KeyUsage(False, True, False, False, False, False, False, False, False), True),), None),
        (
            ((x509.KeyUsage(False, False, True, False, False, False, False, False, False), True),),
            "not for signing",
        ),
        (((x509.ExtendedKeyUsage([ExtendedKeyUsageOID.IPSEC_IKE]), True),), None),
        (((x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),), None),
        (((x509.ExtendedKeyUsage([x509.ObjectIdentifier("1.3.6.1.5.5.8.2.2")]), False),), None),
        (((x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), False),), "other purposes"),
        (((x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\5\0"), False),), None),
        (
            ((x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\5\0"), True),),
            "critical extension 1.2.3.4",
        ),
    ],
)
def test_what_an_end_entity_is_for(extensions, why):
    end = ROOT.issue(KEY.public_key(), extensions=((x509.SubjectAlternativeName(NAMES), False), *extensions))
    if why is None:
        assert verify(end) == end
    else:
        with pytest.raises(AuthenticationFailed, match=why):
            verify(end)


def test_weak_signatures_and_keys():
    key = rsa.generate_private_key(65537, 2048)
    root = Authority(key)
    good = root.issue(KEY.public_key())
    verify(good, anchors=[root])
    sha256, sha1 = (
        bytes.fromhex(f"2a864886f70d0101{last}") for last in ("0b", "05")
    )  # no library signs so any more
    signature = key.sign(good.tbs_certificate_bytes.replace(sha256, sha1), padding.PKCS1v15(), hashes.SHA1())
    der = good.public_bytes(serialization.Encoding.DER).replace(sha256, sha1)[: -len(signature)] + signature
    with pytest.raises(AuthenticationFailed, match="not trusted"):
        verify(x509.load_der_x509_certificate(der), anchors=[root])
    with pytest.raises(AuthenticationFailed, match="less than 2048 bits"):
        verify(root.issue(rsa.generate_private_key(65537, 1024).public_key()), anchors=[root])


def test_another_authority_of_the_same_name():
    other = Authority(ec.generate_private_key(ec.SECP256R1()))
    with pytest.raises(AuthenticationFailed, match="not trusted"):
        verify(other.issue(KEY.public_key()), other.certificate)
    verify(other.issue(KEY.public_key()), anchors=[ROOT, other])


def test_an_end_entity_that_issues():
    end = ROOT.issue(KEY.public_key(), "clever")
    clever = Authority(KEY, "clever")
    with pytest.raises(AuthenticationFailed, match="is no authority's"):
        verify(clever.issue(KEY.public_key()), end)


def test_depth_and_number_are_bounded():
    chain = [ROOT]
    for number in range(6):
        chain.append(Authority(KEY, f"ca {number}", chain[-1]))
    end = chain[5].issue(KEY.public_key())
    others = [each.certificate for each in chain[1:6]]
    with pytest.raises(AuthenticationFailed, match="more than 4 authorities"):
        verify(end, *others)
    assert verify(end, *others, max_depth=5) == end
    with pytest.raises(
        AuthenticationFailed, match="not trusted"
    ):  # what is needed comes too late to be looked at
        verify(chain[1].issue(KEY.public_key()), *(20 * [ROOT.issue(KEY.public_key(), "x")]), others[0])


def test_two_that_issued_each_other():
    left, right = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    one, two = Authority(left, "one"), Authority(right, "two")
    crossed = [
        one.issue(
            right.public_key(),
            "two",
            extensions=((x509.BasicConstraints(True, None), True), (CERTIFYING, True)),
        ),
        two.issue(
            left.public_key(),
            "one",
            extensions=((x509.BasicConstraints(True, None), True), (CERTIFYING, True)),
        ),
    ]
    with pytest.raises(AuthenticationFailed, match="not trusted"):
        verify(one.issue(KEY.public_key()), *crossed)


@pytest.mark.parametrize("critical", [True, False])
@pytest.mark.parametrize(
    ("base", "good", "bad"),
    [
        (x509.DNSName("branch.example"), "gw.branch.example", "gw.hq.example"),
        (x509.DNSName("branch.example"), "branch.example", "notbranch.example"),
        (x509.DNSName(".branch.example"), "gw.branch.example", "branch.example"),
        (x509.RFC822Name("branch.example"), "u@branch.example", "u@gw.branch.example"),
        (x509.RFC822Name(".branch.example"), "u@gw.branch.example", "u@branch.example"),
        (x509.RFC822Name("u@branch.example"), "U@Branch.example", "v@branch.example"),
        (x509.IPAddress(ip_network("192.0.2.0/24")), "192.0.2.1", "192.0.3.1"),
        (x509.IPAddress(ip_network("2001:db8::/32")), "2001:db8::1", "192.0.2.1"),
    ],
)
@pytest.mark.parametrize("how", ["permitted", "excluded"])
def test_name_constraints_hold_critical_or_not(critical, base, good, bad, how):
    """One that is not critical was ignored."""
    subtrees = ([base], None) if how == "permitted" else (None, [base])
    middle = Authority(
        KEY,
        "branch CA",
        ROOT,
        extensions=(
            (x509.BasicConstraints(True, 0), True),
            (CERTIFYING, True),
            (x509.NameConstraints(*subtrees), critical),
        ),
    )
    if how == "excluded":
        good, bad = bad, good
    for name in (good, bad):
        identity = Identity.parse(name)
        kind = {IdType.FQDN: x509.DNSName, IdType.RFC822_ADDR: x509.RFC822Name}.get(identity.id_type)
        names = x509.SubjectAlternativeName([kind(name) if kind else x509.IPAddress(ip_address(name))])
        end = middle.issue(KEY.public_key(), "x", extensions=((names, False), (SIGNING, True)))
        if name == good:
            assert verify(end, middle.certificate, identity=identity) == end
        else:
            with pytest.raises(AuthenticationFailed, match="may not vouch for"):
                verify(end, middle.certificate, identity=identity)


def test_constraints_on_names_that_ike_does_not_have():
    middle = Authority(
        KEY,
        "branch CA",
        ROOT,
        extensions=(
            (x509.BasicConstraints(True, 0), True),
            (CERTIFYING, True),
            (x509.NameConstraints([x509.UniformResourceIdentifier("branch.example")], None), True),
        ),
    )
    for others, taken in (
        ((), True),
        ((x509.UniformResourceIdentifier("https://gw.branch.example"),), False),
    ):
        end = middle.issue(
            KEY.public_key(),
            extensions=((x509.SubjectAlternativeName((*NAMES, *others)), False), (SIGNING, True)),
        )
        if taken:
            assert verify(end, middle.certificate) == end
        else:
            with pytest.raises(AuthenticationFailed, match="may not vouch for"):
                verify(end, middle.certificate)


def test_all_paths_are_tried():
    """An expired certificate of the same authority, or one by an authority that is not trusted, hid the
    path that is good.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    authority = ((x509.BasicConstraints(True, None), True), (CERTIFYING, True))
    middle = Authority(key, "middle", ROOT)
    foreign = Authority(ec.generate_private_key(ec.SECP256R1()), "foreign")
    end = middle.issue(KEY.public_key())
    dead_ends = [
        ROOT.issue(key.public_key(), "middle", extensions=authority, not_after=FROM + DAY),
        foreign.issue(key.public_key(), "middle", extensions=authority),
        ROOT.issue(key.public_key(), "middle"),
        foreign.certificate,
    ]
    for order in permutations([middle.certificate, *dead_ends]):
        assert verify(end, *order) == end
    with pytest.raises(AuthenticationFailed, match="was valid until|is no authority's"):
        verify(end, *dead_ends)


def test_the_search_is_bounded(monkeypatch):
    """Fifteen that all issued each other, and none of them is trusted."""
    key = ec.generate_private_key(ec.SECP256R1())
    same = Authority(key, "same")
    crossed = [
        same.issue(
            key.public_key(),
            "same",
            extensions=((x509.BasicConstraints(True, None), True), (CERTIFYING, True)),
        )
        for _ in range(15)
    ]
    checked = []
    issued = certificates._issued
    monkeypatch.setattr(certificates, "_issued", lambda *pair: checked.append(pair) or issued(*pair))
    count, wrong = lines(lambda: verify(same.issue(KEY.public_key()), *crossed))
    assert (
        isinstance(wrong, AuthenticationFailed)
        and len(checked) <= certificates.MAX_SIGNATURES
        and count < 200_000
    )


def test_a_pinned_certificate_needs_no_authority():
    own = Authority(KEY, "gw", extensions=((x509.SubjectAlternativeName(NAMES), False),))
    assert verify(own.certificate, anchors=[own]) == own.certificate
    with pytest.raises(AuthenticationFailed, match="not trusted"):
        verify(own.certificate)


def test_payloads_that_hold_no_certificate():
    end = ROOT.issue(KEY.public_key())
    (good,) = certs([end])
    trusted = Authorities([ROOT.certificate])
    for wrong in (
        [],
        [replace(good, encoding=CertEncoding.X509_HASH_AND_URL)],
        [replace(good, data=b"")],
        [replace(good, data=good.data[:-1])],
        [Cert(CertEncoding.X509_SIGNATURE, b"\x30\x80")],
    ):
        with pytest.raises(AuthenticationFailed):
            trusted.verify(wrong, GATEWAY, NOW)
    assert trusted.verify([Cert(CertEncoding.CRL, b"x"), good], GATEWAY, NOW) == end


def test_certificate_requests():
    other = Authority(ec.generate_private_key(ec.SECP256R1()), "other")
    request = Authorities([ROOT.certificate, other.certificate]).request()
    ski = x509.SubjectKeyIdentifier.from_public_key(KEY.public_key()).digest
    assert (request.encoding, len(request.data)) == (CertEncoding.X509_SIGNATURE, 40)
    assert request.data[:20] != ski  # of the whole SubjectPublicKeyInfo, not of the key in it (RFC 7296 3.7)
    end = ROOT.issue(KEY.public_key())
    stranger = Authorities(
        [Authority(ec.generate_private_key(ec.SECP256R1()), "third").certificate]
    ).request()
    assert is_asked_for(end, [ROOT.certificate], [request])
    assert is_asked_for(end, [ROOT.certificate], [])
    assert not is_asked_for(end, [ROOT.certificate], [stranger])
    assert is_asked_for(end, [ROOT.certificate], [stranger, request])


def _pem(key, password: bytes | None = None) -> bytes:
    how = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, how)


def test_files():
    pem = b"".join(
        each.certificate.public_bytes(serialization.Encoding.PEM) for each in (ROOT, Authority(KEY, "second"))
    )
    assert load_certificates(pem, "ca.pem")[0] == ROOT.certificate
    assert len(load_certificates(pem, "ca.pem")) == 2
    assert load_certificates(ROOT.certificate.public_bytes(serialization.Encoding.DER), "ca.der") == (
        ROOT.certificate,
    )
    der = KEY.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    for data, password in ((_pem(KEY), None), (der, None), (_pem(KEY, b"word"), b"word")):
        assert load_private_key(data, "key", password).private_numbers() == KEY.private_numbers()
    for wrong in (b"", b"secret", pem[:100]):
        with pytest.raises(InputError, match="ca.pem: expected certificates"):
            load_certificates(wrong, "ca.pem")


@pytest.mark.parametrize(
    ("data", "password", "why"),
    [
        (b"hidden", None, "expected a private key"),
        (b"-----BEGIN PRIVATE KEY-----\nhidden", None, "expected a private key"),
        (_pem(KEY, b"word"), None, "expected a password"),
        (_pem(KEY, b"word"), b"drow", "and its password"),
        (_pem(KEY), b"word", "expected no password"),
        (_pem(dsa.generate_private_key(2048)), None, "RSA, ECDSA or Ed25519"),
    ],
)
def test_keys_that_cannot_be_loaded(data, password, why):
    with pytest.raises(InputError, match=why) as caught:
        load_private_key(data, "gw.key", password)
    assert str(caught.value).startswith("gw.key: ")
    assert "hidden" not in str(caught.value)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_strangers_write_nothing_to_standard_error():
    """The parser warns of what is odd in a name, with what was found: each of 60,000 lengths was a line of
    its own.
    """
    odd = Authority(MAKERS["ecdsa256"]())
    odd.subject = x509.Name(
        [x509.NameAttribute(NameOID.COUNTRY_NAME, "x" * size, _validate=False) for size in (3, 4, 5)]
    )
    cert = Cert(CertEncoding.X509_SIGNATURE, odd.issue(odd.key.public_key()).public_bytes(Encoding.DER))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        with pytest.raises(AuthenticationFailed):
            Authorities([Authority(MAKERS["ecdsa256"]()).certificate]).verify(
                [cert], Identity.parse("gw.example"), FROM + DAY
            )
    assert not told
