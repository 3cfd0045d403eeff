# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Proposals: the words, what a responder chooses, what an initiator lets pass."""

import itertools
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spigate.firmware_py.errors import InputError
from spigate.firmware_py.ike.crypto.proposals import (
    AH_DEFAULT,
    ESP_DEFAULT,
    IKE_DEFAULT,
    WORDS,
    check,
    choose,
    offer,
    parse,
    suite_of,
    text,
)
from spigate.firmware_py.ike.wire.errors import NoProposalChosen
from spigate.firmware_py.ike.wire.payloads import SecurityAssociation
from spigate.firmware_py.ike.wire.registry import (
    Encr,
    Esn,
    Integ,
    Ke,
    NotifyType,
    Prf,
    ProtocolId,
    TransformType,
)
from spigate.firmware_py.ike.wire.structures import Proposal, Transform
from spigate.firmware_py.ipsec.sa import AUTHS, CIPHERS, Auth, Cipher

IKE, ESP, AH = ProtocolId.IKE, ProtocolId.ESP, ProtocolId.AH


def ike(*words: str) -> list[Proposal]:
    return [parse(each, IKE) for each in words]


def test_words():
    proposal = parse("aes256gcm16-prfsha384-ecp384-ke1_mlkem768", IKE)
    assert proposal.transforms == (
        Transform(TransformType.ENCR, Encr.AES_GCM_16, 256),
        Transform(TransformType.PRF, Prf.HMAC_SHA2_384),
        Transform(TransformType.KE, Ke.ECP_384),
        Transform(TransformType.ADDKE1, Ke.ML_KEM_768),
    )
    # strongSwan's other words and its rule for the prf
    assert parse("AES256GCM128-prfsha384-x25519", IKE) == parse("aes256gcm-prfsha384-curve25519", IKE)
    assert parse("aes128-sha256-modp2048", IKE) == parse("aes128-sha2_256-prfsha256-modp2048", IKE)
    assert parse("aes128ccm64", ESP) == parse("aes128ccm8-noesn", ESP)
    assert {transform.transform_id for transform in parse("sha1-sha256", AH).transforms} == {
        Integ.HMAC_SHA1_96,
        Integ.HMAC_SHA2_256_128,
        Esn.NO_ESN,
    }


@pytest.mark.parametrize(
    ("words", "protocol"),
    [
        *((text(each), each.protocol) for each in (*IKE_DEFAULT, *ESP_DEFAULT, *AH_DEFAULT)),
        ("aes256-sha384-prfsha512-modp4096-ke1_mlkem1024-ke1_none-ke3_curve25519", IKE),
        ("null-sha256-esn", ESP),
        ("aes192gmac-ecp256-noke-noesn-esn", ESP),
        ("sha512-esn", AH),
    ],
)
def test_text_is_what_was_parsed(words, protocol):
    assert text(parse(words, protocol)) == words
    assert parse(text(parse(words, protocol)), protocol) == parse(words, protocol)


@pytest.mark.parametrize(
    ("words", "protocol", "why"),
    [
        ("aes257gcm16-prfsha256-ecp256", IKE, "'aes257gcm16' is no algorithm"),
        ("", IKE, "'' is no algorithm"),
        ("aes256gcm16-ecp256", IKE, "prf such as"),
        ("aes256gcm16-prfsha256", IKE, "key exchange such as"),
        ("aes256gcm16-prfsha256-noke", IKE, "key exchange such as"),
        ("aes256gcm16-sha256-prfsha256-ecp256", IKE, "an integrity algorithm goes with"),
        ("aes256-prfsha256-ecp256", IKE, "an integrity algorithm goes with"),
        ("aes256-aes256gcm16-sha256-ecp256", IKE, "either all of them combined modes"),
        ("prfsha256-ecp256", IKE, "expected ciphers"),
        ("null-sha256-ecp256", IKE, "IKE wants a cipher"),
        ("aes256gcm16-prfsha256-ecp256-esn", IKE, "esn is not for IKE"),
        ("aes256gcm16-prfsha256", ESP, "a prf is for IKE"),
        ("aes256gcm16-ke1_mlkem768", ESP, "want a first one"),
        ("aes256gcm16", AH, "AH wants an integrity"),
        ("esn", AH, "AH wants an integrity"),
    ],
)
def test_words_that_make_no_sense(words, protocol, why):
    with pytest.raises(InputError, match=why) as caught:
        parse(words, protocol)
    assert repr(words) in str(caught.value)


def test_every_cipher_of_a_child_is_an_sa_s():
    for word, transform in WORDS.items():
        if transform.transform_type == TransformType.ENCR:
            combined = transform.transform_id not in (Encr.NULL, Encr.AES_CBC, Encr.AES_CTR)
            suite = suite_of(parse(word if combined else f"{word}-sha256", ESP))
            assert suite.key_bits // 8 in CIPHERS[suite.cipher].keys
            assert suite.icv_bytes in (CIPHERS[suite.cipher].icvs or (0,))
            assert suite.auth == (Auth.NONE if combined else Auth.HMAC_SHA256_128)
    assert {suite_of(parse(f"{word}", AH)).auth for word in ("sha1", "sha256", "sha384", "sha512")} == set(
        AUTHS
    )
    assert suite_of(parse("sha256", AH)).cipher == Cipher.NULL


def test_the_peer_s_order_of_proposals_and_our_order_within():
    ours = ike("aes128gcm16-aes256gcm16-prfsha256-ecp256-ecp384", "aes256-sha256-ecp256")
    suite = choose(
        offer(ike("aes256-sha256-ecp256", "aes256gcm16-aes128gcm16-prfsha256-ecp384-ecp256")), ours
    )
    assert str(suite) == "aes256-sha256-prfsha256-ecp256"
    suite = choose(offer(ike("aes256gcm16-aes128gcm16-prfsha256-ecp384-ecp256")), ours)
    assert str(suite) == "aes128gcm16-prfsha256-ecp256"
    assert (suite.encryption, suite.key_bits, suite.integrity, suite.prf, suite.group) == (
        Encr.AES_GCM_16,
        128,
        Integ.NONE,
        Prf.HMAC_SHA2_256,
        Ke.ECP_256,
    )


def test_the_group_of_the_ke_payload_is_preferred():
    ours, theirs = IKE_DEFAULT, offer(ike("aes256gcm16-prfsha256-ecp256-curve25519-modp2048"))
    for group in (Ke.ECP_256, Ke.CURVE25519, Ke.MODP_2048):
        assert choose(theirs, ours, group=group).group == group
    assert (
        choose(theirs, ours, group=Ke.MODP_1024).group == Ke.ECP_256
    )  # to be answered with INVALID_KE_PAYLOAD


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("aes256gcm16-prfsha256-ecp256", "aes128gcm16-prfsha256-ecp256"),
        ("aes256gcm16-prfsha256-ecp256", "aes256gcm12-prfsha256-ecp256"),
        ("aes256-sha256-ecp256", "aes256gcm16-prfsha256-ecp256"),
        ("aes256gcm16-prfsha256-ecp256", "aes256gcm16-prfsha384-ecp256"),
        ("aes256gcm16-prfsha256-ecp256", "aes256gcm16-prfsha256-ecp384"),
        ("aes256gcm16-prfsha256-ecp256-ke1_mlkem768", "aes256gcm16-prfsha256-ecp256"),
        ("aes256gcm16-prfsha256-ecp256", "aes256gcm16-prfsha256-ecp256-ke1_mlkem768"),
        ("aes256gcm16-prfsha256-ecp256-ke1_mlkem768", "aes256gcm16-prfsha256-ecp256-ke2_mlkem768"),
    ],
)
def test_nothing_in_common(theirs, ours):
    with pytest.raises(NoProposalChosen, match="none of the peer's") as caught:
        choose(offer(ike(theirs)), ike(ours))
    assert caught.value.notify == NotifyType.NO_PROPOSAL_CHOSEN


def test_optional_additional_key_exchanges():
    """RFC 9370 2.2.1: NONE among the methods makes one optional."""
    for theirs, ours, expected in (
        ("ke1_mlkem768-ke1_none", "ke1_mlkem768", ((6, Ke.ML_KEM_768),)),
        ("ke1_mlkem768-ke1_none", "", ()),
        ("", "ke1_mlkem768-ke1_none", ()),
        (
            "ke1_mlkem768-ke3_mlkem1024",
            "ke1_mlkem768-ke1_none-ke3_mlkem1024",
            ((6, Ke.ML_KEM_768), (8, Ke.ML_KEM_1024)),
        ),
    ):
        offers = offer(ike(f"aes256gcm16-prfsha256-ecp256-{theirs}".rstrip("-")))
        suite = choose(offers, ike(f"aes256gcm16-prfsha256-ecp256-{ours}".rstrip("-")))
        assert suite.additional == expected
        assert check(suite.answer().proposals, offers) == suite


def test_no_method_twice():
    offers = offer(ike("aes256gcm16-prfsha256-ecp256-ke1_ecp256-ke1_ecp384-ke2_ecp384-ke2_mlkem768"))
    suite = choose(offers, ike("aes256gcm16-prfsha256-ecp256-ke1_ecp256-ke1_ecp384-ke2_ecp384-ke2_mlkem768"))
    assert (suite.group, suite.additional) == (Ke.ECP_256, ((6, Ke.ECP_384), (7, Ke.ML_KEM_768)))
    twice = replace(
        offers[0],
        transforms=tuple(
            each
            for each in offers[0].transforms
            if (each.transform_type, each.transform_id) not in ((6, Ke.ECP_256), (7, Ke.ML_KEM_768))
        ),
    )
    with pytest.raises(NoProposalChosen, match="twice"):
        check([twice], offers)


def test_children_of_ike_auth_have_no_key_exchange():
    ours = [parse("aes256gcm16-ecp256-esn-noesn", ESP), parse("aes256gcm16-ecp384-esn-noesn", ESP)]
    offers = offer(ours, b"\1\2\3\4", key_exchange=False)
    assert len(offers) == 1  # they were the same but for the key exchange
    assert not offers[0].of(TransformType.KE)
    with_group = offer(ours, b"\1\2\3\4")
    for each in (offers, with_group):
        suite = choose(each, ours, key_exchange=False)
        assert (suite.group, suite.esn, suite.peer_spi) == (Ke.NONE, True, b"\1\2\3\4")
    assert choose(with_group, ours).group == Ke.ECP_256
    with pytest.raises(NoProposalChosen):
        choose(offers, ours)
    assert (
        choose(offer([parse("aes256gcm16-esn", ESP)]), [parse("aes256gcm16-ecp256-noke-esn", ESP)]).group
        == Ke.NONE
    )


def test_integrity_none_is_no_integrity():
    """RFC 7296 3.3.3: with a combined mode, NONE may be offered or nothing."""
    none = Transform(TransformType.INTEG, Integ.NONE)
    offered = replace(
        ike("aes256gcm16-prfsha256-ecp256")[0],
        transforms=(*ike("aes256gcm16-prfsha256-ecp256")[0].transforms, none),
    )
    suite = choose([offered], ike("aes256gcm16-prfsha256-ecp256"))
    assert none in suite.proposal.transforms
    assert check(suite.answer().proposals, [offered]).integrity == Integ.NONE
    without = replace(
        suite.proposal, transforms=tuple(each for each in suite.proposal.transforms if each != none)
    )
    assert check([without], [offered]).integrity == Integ.NONE


def test_transforms_that_are_not_known():
    """RFC 7296 3.3.6: unknown ones are passed over; an unknown type makes the proposal unacceptable."""
    (good,) = ike("aes256gcm16-prfsha256-ecp256")
    odd = (
        Transform(TransformType.ENCR, 99, 256),
        Transform(TransformType.PRF, Prf.HMAC_SHA2_256, None, b"\x80\x63\0\1"),
        Transform(TransformType.ENCR, Encr.AES_GCM_16),
        Transform(TransformType.KE, Ke.MODP_1024),
    )
    offered = replace(good, transforms=(*odd, *good.transforms))
    assert str(choose([offered], ike("aes256gcm16-prfsha256-ecp256"))) == "aes256gcm16-prfsha256-ecp256"
    with pytest.raises(NoProposalChosen):
        choose(
            [replace(good, transforms=(*good.transforms, Transform(77, 1)))],
            ike("aes256gcm16-prfsha256-ecp256"),
        )
    with pytest.raises(NoProposalChosen, match="transformtype_77"):
        choose([replace(good, transforms=(Transform(77, 1),))], ike("aes256gcm16-prfsha256-ecp256"))


def test_what_an_answer_may_not_be():
    offers = offer([parse("aes256gcm16-aes128gcm16-ecp256-esn", ESP)], b"\1\2\3\4")
    good = choose(offers, [parse("aes128gcm16-ecp256-esn", ESP)]).answer(b"\5\6\7\x08").proposals[0]
    assert check([good], offers).peer_spi == b"\5\6\7\x08"
    (cipher, group, esn) = good.transforms
    for wrong in (
        [],
        [good, good],
        [replace(good, number=2)],
        [replace(good, protocol=AH)],
        [replace(good, spi=b"")],
        [replace(good, transforms=(cipher, esn))],
        [replace(good, transforms=(cipher, cipher, group, esn))],
        [replace(good, transforms=(*offers[0].of(1), group, esn))],
        [replace(good, transforms=(cipher, replace(group, transform_id=Ke.ECP_384), esn))],
        [replace(good, transforms=(replace(cipher, key_bits=192), group, esn))],
        [replace(good, transforms=(cipher, group, esn, Transform(TransformType.PRF, 5)))],
    ):
        with pytest.raises(NoProposalChosen):
            check(wrong, offers)


def test_offer_numbers_and_spi():
    offers = offer(IKE_DEFAULT, b"12345678")
    assert [(each.number, each.spi) for each in offers] == [(1, b"12345678"), (2, b"12345678")]
    assert SecurityAssociation.parse_body(SecurityAssociation(offers).body()).proposals == offers


_CIPHERS, _HASHES, _KES = (
    ("aes128gcm16", "aes256gcm16", "aes256"),
    ("sha256", "sha512"),
    ("ecp256", "curve25519", "modp2048"),
)


@st.composite
def _random(draw):
    ciphers = draw(st.sampled_from([_CIPHERS[:2], _CIPHERS[2:]]))
    words = [
        *draw(st.permutations(ciphers)),
        *(f"prf{each}" for each in draw(st.permutations(_HASHES))[: draw(st.integers(1, 2))]),
    ]
    if ciphers == _CIPHERS[2:]:
        words += draw(st.permutations(_HASHES))[: draw(st.integers(1, 2))]
    words += draw(st.permutations(_KES))[: draw(st.integers(1, 3))]
    return parse("-".join(words), IKE)


@settings(max_examples=200, deadline=None)
@given(st.lists(_random(), min_size=1, max_size=3), st.lists(_random(), min_size=1, max_size=3))
def test_a_choice_is_made_exactly_where_there_is_one(theirs, ours):
    def combinations(proposals):
        for proposal in proposals:
            kinds = sorted({each.transform_type for each in proposal.transforms})
            yield from (frozenset(each) for each in itertools.product(*(proposal.of(kind) for kind in kinds)))

    common = set(combinations(theirs)) & set(combinations(ours))
    try:
        suite = choose(offer(theirs), ours)
    except NoProposalChosen:
        assert not common
    else:
        assert frozenset(suite.proposal.transforms) in common
        assert check(suite.answer().proposals, offer(theirs)) == suite
