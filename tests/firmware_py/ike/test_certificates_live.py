# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Two endpoints with certificates of every kind, and access tokens, several servers, and what they refuse."""

from datetime import timedelta

import pytest
from cryptography import x509

from spigate.firmware_py.errors import InputError
from spigate.firmware_py.ike.peers.certificates import Authorities
from spigate.firmware_py.ike.peers.identities import Identity
from spigate.firmware_py.ike.peers.pad import AccessToken, KeyPair, PreSharedKey
from tests.firmware_py.ike.authority import MAKERS, SIGNING, Authority
from tests.firmware_py.ike.network import BEGIN, SECRET, Network, child, joined, pair, peer, reverse

pytestmark = pytest.mark.slow

DATES = {"not_before": BEGIN - timedelta(days=1), "not_after": BEGIN + timedelta(days=10)}


def key_pair(authority: Authority, kind: str, host: str, **dates) -> KeyPair:
    key = MAKERS[kind]()
    names = x509.SubjectAlternativeName([x509.DNSName(host)])
    certificate = authority.issue(
        key.public_key(), host, extensions=((names, False), (SIGNING, True)), **{**DATES, **dates}
    )
    return KeyPair(key, (certificate,))


def connect(a: dict, b: dict):
    network, one, other = pair(a=a, b=b)
    one.initiate("b")
    network.run(20)  # what fails is tried a few times more
    return one, other


def failure(*hosts) -> str:
    return " | ".join(event.text for host in hosts for event in host.events if event.kind == "ike-failed")


@pytest.fixture(scope="module")
def authority():
    return Authority(MAKERS["ecdsa256"](), "root", **DATES)


@pytest.mark.parametrize(
    "ours, theirs",
    [("rsa", "ecdsa256"), ("ecdsa384", "ecdsa521"), ("ed25519", "rsa"), ("ecdsa256", "ed25519")],
)
def test_kinds(authority, ours, theirs):
    trusted = Authorities([authority.certificate])
    a, b = connect(
        {"local_credential": key_pair(authority, ours, "a.example"), "remote_credential": trusted},
        {"local_credential": key_pair(authority, theirs, "b.example"), "remote_credential": trusted},
    )
    assert joined(a, b)


def test_one_side_with_a_secret(authority):
    a, b = connect(
        {"local_credential": SECRET, "remote_credential": Authorities([authority.certificate])},
        {"local_credential": key_pair(authority, "ecdsa256", "b.example"), "remote_credential": SECRET},
    )
    assert joined(a, b)


@pytest.mark.parametrize(
    "host, dates, why",
    [
        ("c.example", {}, "does not speak for|not in"),
        ("a.example", {"not_after": BEGIN - timedelta(hours=1)}, "valid|expired"),
    ],
)
def test_certificates_that_will_not_do(authority, host, dates, why):
    trusted = Authorities([authority.certificate])
    a, b = connect(
        {"local_credential": key_pair(authority, "ecdsa256", host, **dates), "remote_credential": trusted},
        {"local_credential": key_pair(authority, "ecdsa256", "b.example"), "remote_credential": trusted},
    )
    assert "AUTHENTICATION_FAILED" in failure(a) and failure(b)
    assert not a.standing and not b.standing and not b.plane.inbound


def test_secret_where_a_certificate_is_expected(authority):
    a, b = connect({}, {"remote_credential": Authorities([authority.certificate])})
    assert "AUTHENTICATION_FAILED" in failure(a) and not b.standing


def test_another_authority(authority):
    other = Authority(MAKERS["ecdsa256"](), "root", **DATES)
    a, b = connect(
        {"local_credential": key_pair(authority, "ecdsa256", "a.example")},
        {"remote_credential": Authorities([other.certificate])},
    )
    assert "AUTHENTICATION_FAILED" in failure(a) and not b.standing


def test_an_access_token_that_is_replaced():
    """Each handshake is shown with the token of its time; without one, it fails, on either side."""
    tokens = []

    def fetch() -> PreSharedKey:
        if not tokens:
            raise InputError("there is no token")
        return PreSharedKey(tokens[-1])

    for side in ("a", "b"):
        tokens[:] = [SECRET.secret]
        credentials = {"local_credential": AccessToken(fetch), "remote_credential": AccessToken(fetch)}
        network, one, other = pair(**{side: credentials})
        for token, stands in (
            (SECRET.secret, True),
            (b"another", False),
            (None, False),
            (SECRET.secret, True),
        ):
            tokens[:] = [] if token is None else [token]
            one.initiate("b")
            network.run(20)
            assert joined(one, other) == stands
            one.endpoint.terminate(network.now, "b")
            network.run(10)
        assert "there is no token" in failure(one if side == "a" else other)


def test_servers_at_one_address_are_told_apart_by_idr():
    servers = {
        name: (PreSharedKey(name.encode() * 4), child(traffic=f"10.1.0.0/24=10.2.{at}.0/24"))
        for at, name in enumerate(("web", "mail", "files"))
    }
    network = Network()
    one = network.host(
        "a",
        "192.0.2.1",
        *(
            peer(
                name,
                "a",
                "b",
                remote_identity=f"{name}.example",
                local_credential=key,
                remote_credential=key,
                children=(config,),
            )
            for name, (key, config) in servers.items()
        ),
    )
    other = network.host(
        "b",
        "192.0.2.2",
        *(
            peer(
                name,
                "b",
                "a",
                local_identity=Identity.parse(f"{name}.example"),
                local_credential=key,
                remote_credential=key,
                children=(reverse(config),),
            )
            for name, (key, config) in servers.items()
        ),
    )
    for name in reversed(servers):
        one.initiate(name)
        network.run(10)
    assert [ike.peer.name for ike in other.standing] == [*reversed(servers)] and joined(one, other)
