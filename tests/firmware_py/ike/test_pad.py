# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The Peer Authorization Database: what a configuration may say, and who may take part."""

from ipaddress import ip_address, ip_network

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from spigate.firmware_py.errors import InputError
from spigate.firmware_py.ike.crypto.proposals import suite_of
from spigate.firmware_py.ike.peers.identities import Identity
from spigate.firmware_py.ike.peers.pad import KeyPair, Pad, PreSharedKey
from spigate.firmware_py.ike.wire.errors import AuthenticationFailed
from spigate.firmware_py.ipsec.sa import Lifetime
from tests.firmware_py.ike.authority import Authority
from tests.firmware_py.ike.network import FAST_ESP, FAST_IKE, child, ike, peer

SUITE = suite_of(FAST_IKE[0])
A, B = Identity.parse("a.example"), Identity.parse("b.example")


@pytest.mark.parametrize(
    "settings, says",
    [
        ({"name": ""}, "child name must be a word"),
        ({"jitter": 1}, "child 'net' jitter must be 0 to below 1, not 1"),
        (
            {"soft": Lifetime(bytes=2), "hard": Lifetime(bytes=1)},
            "child 'net' soft bytes must be at most 1, not 2",
        ),
        ({"proposals": FAST_IKE}, "child 'net' proposals must be for ESP"),
    ],
)
def test_children_that_cannot_be(settings, says):
    with pytest.raises(InputError, match=says):
        child(**settings)


@pytest.mark.parametrize(
    "settings, says",
    [
        ({"local_address": None}, "peer 'b' local_address must be given exactly where address is, not None"),
        (
            {"address": None, "local_address": None, "initiate": True},
            "peer 'b' initiate must be false where there is no address",
        ),
        ({"fragment_bytes": 100}, "peer 'b' fragment_bytes must be 576 to 65535, not 100"),
        ({"rekey_seconds": 0}, "peer 'b' rekey_seconds must be more than 0, or None, not 0"),
        ({"children": (child(), child())}, "peer 'b' children must be of different names"),
        ({"proposals": FAST_ESP}, "peer 'b' proposals must be for IKE"),
    ],
)
def test_peers_that_cannot_be(settings, says):
    with pytest.raises(InputError, match=says):
        peer("b", "a", "b", **settings)


def test_databases_that_cannot_be():
    with pytest.raises(InputError, match="peer name must be used once, not 'b'"):
        Pad([peer("b", "a", "b"), peer("b", "a", "b")])
    with pytest.raises(InputError, match="child 'net' reqid must be used once, not 7"):
        Pad(
            [peer("b", "a", "b", children=(child(reqid=7),)), peer("c", "a", "c", children=(child(reqid=7),))]
        )


def test_credentials():
    with pytest.raises(InputError, match="pre-shared key must be at least 1 byte"):
        PreSharedKey(b"")
    assert "secret" not in repr(PreSharedKey(b"secret"))
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = Authority(key).certificate
    assert KeyPair(key, (certificate,))
    with pytest.raises(InputError, match="key must be that of the first certificate"):
        KeyPair(ec.generate_private_key(ec.SECP256R1()), (certificate,))
    with pytest.raises(InputError, match="chain must be at least 1 certificate"):
        KeyPair(key, ())


def test_candidates():
    fixed = peer("fixed", "a", "b")
    roaming = peer(
        "roaming", "a", "b", address=None, local_address=None, networks=(ip_network("198.51.100.0/24"),)
    )
    anybody = peer("anybody", "a", "b", address=None, local_address=None)
    pad = Pad([fixed, roaming])
    assert pad.candidates(ip_address("192.0.2.2")) == (fixed,)
    assert pad.candidates(ip_address("198.51.100.7")) == (roaming,)
    assert pad.candidates(ip_address("2001:db8::1")) == ()
    assert Pad([anybody]).candidates(ip_address("2001:db8::1")) == (anybody,)


def test_authorization_is_by_address_identity_and_suite():
    pattern = peer("pattern", "a", "b", remote_identity="*.example")
    strong = peer(
        "strong", "a", "b", remote_identity="b.example", proposals=ike("aes256gcm16-prfsha384-ecp384")
    )
    pad = Pad([strong, pattern])
    at = ip_address("192.0.2.2")
    assert pad.authorize(at, SUITE, B, None) is pattern
    assert pad.authorize(at, suite_of(strong.proposals[0]), B, A) is strong
    for arguments in (
        (ip_address("192.0.2.3"), SUITE, B, A),
        (at, SUITE, Identity.parse("b.other"), A),
        (at, SUITE, B, B),
    ):
        with pytest.raises(AuthenticationFailed, match="no peer"):
            pad.authorize(*arguments)


def test_what_is_not_said_is_the_default():
    entry = peer("b", "a", "b", proposals=(), children=(child(proposals=()),))
    assert entry.proposals and entry.children[0].proposals
    assert entry.networks == (ip_network("192.0.2.2/32"),)
