# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""What two peers agree on: proposals of algorithms for IKE and child SAs (RFC 7296 2.7, 3.3; RFC 9370)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import NoReturn

from spigate.firmware_py.errors import InputError
from spigate.firmware_py.ike.wire.errors import NoProposalChosen
from spigate.firmware_py.ike.wire.payloads import SecurityAssociation
from spigate.firmware_py.ike.wire.registry import (
    ADDITIONAL_KEY_EXCHANGES,
    Encr,
    Esn,
    Integ,
    Ke,
    Prf,
    ProtocolId,
    TransformType,
)
from spigate.firmware_py.ike.wire.structures import Proposal, Transform
from spigate.firmware_py.ipsec.sa import Auth, Cipher

CIPHERS: dict[int, tuple[Cipher, int]] = {
    Encr.NULL: (Cipher.NULL, 0),
    Encr.AES_CBC: (Cipher.AES_CBC, 0),
    Encr.AES_CTR: (Cipher.AES_CTR, 0),
    Encr.AES_GCM_8: (Cipher.AES_GCM, 8),
    Encr.AES_GCM_12: (Cipher.AES_GCM, 12),
    Encr.AES_GCM_16: (Cipher.AES_GCM, 16),
    Encr.AES_CCM_8: (Cipher.AES_CCM, 8),
    Encr.AES_CCM_12: (Cipher.AES_CCM, 12),
    Encr.AES_CCM_16: (Cipher.AES_CCM, 16),
    Encr.NULL_AES_GMAC: (Cipher.AES_GMAC, 16),
    Encr.CHACHA20_POLY1305: (Cipher.CHACHA20_POLY1305, 16),
}
"""What encrypts, as :class:`spigate.firmware_py.ipsec.sa.Sa` says it: cipher, and its ICV in bytes if it
authenticates.
"""
NOT_FOR_IKE = frozenset({Encr.NULL, Encr.AES_CTR, Encr.NULL_AES_GMAC})
INTEGRITY: dict[Integ, Auth] = {
    Integ.NONE: Auth.NONE,
    Integ.HMAC_SHA1_96: Auth.HMAC_SHA1_96,
    Integ.HMAC_SHA2_256_128: Auth.HMAC_SHA256_128,
    Integ.HMAC_SHA2_384_192: Auth.HMAC_SHA384_192,
    Integ.HMAC_SHA2_512_256: Auth.HMAC_SHA512_256,
}
_OPTIONAL = frozenset(
    {TransformType.INTEG, TransformType.KE, *ADDITIONAL_KEY_EXCHANGES}
)  # their id 0 says NONE
MAX_TEXT = 300
_KEY_EXCHANGES = frozenset({TransformType.KE, *ADDITIONAL_KEY_EXCHANGES})


@dataclass(frozen=True)
class Suite:
    """The algorithms of one SA: a proposal with at most one transform of each type.

    Members
    -------
    protocol : ProtocolId
    encryption : Encr or None
        None: AH.
    key_bits : int
        Of the cipher's key, without salt; 0: no cipher.
    integrity : Integ
        NONE where the cipher authenticates.
    own_prf : Prf or None
        None: not for IKE.
    group : Ke
        NONE: no key exchange of its own (a child made in IKE_AUTH, or without perfect forward secrecy).
    additional : tuple of (int, Ke)
        Type (ADDKE1 to 7) and method of the additional key exchanges to be made, in order (RFC 9370); never
        NONE.
    esn : bool
    proposal : Proposal
        As it was offered or answered, with the peer's SPI in it, cut down to these transforms.
    """

    protocol: ProtocolId
    encryption: Encr | None
    key_bits: int
    integrity: Integ
    own_prf: Prf | None
    group: Ke
    additional: tuple[tuple[int, Ke], ...]
    esn: bool
    proposal: Proposal = field(repr=False, compare=False)

    @property
    def prf(self) -> Prf:
        """Of an IKE SA's suite, which always has one."""
        assert self.own_prf is not None
        return self.own_prf

    @property
    def cipher(self) -> Cipher:
        """As :class:`spigate.firmware_py.ipsec.sa.Sa` says it."""
        return CIPHERS[self.encryption][0] if self.encryption is not None else Cipher.NULL

    @property
    def auth(self) -> Auth:
        """As ``Sa`` says it."""
        return INTEGRITY[self.integrity]

    @property
    def icv_bytes(self) -> int:
        """As ``Sa`` says it: 0 where the cipher does not authenticate."""
        return CIPHERS[self.encryption][1] if self.encryption is not None else 0

    @property
    def peer_spi(self) -> bytes:
        """The SPI that came with the peer's proposal; empty in IKE_SA_INIT."""
        return self.proposal.spi

    def answer(self, spi: bytes = b"") -> SecurityAssociation:
        """The responder's SA payload, with its own ``spi``."""
        return SecurityAssociation((replace(self.proposal, spi=spi),))

    def __str__(self) -> str:
        return text(self.proposal)


def suite_of(proposal: Proposal) -> Suite:
    """The suite of a proposal that has at most one transform of each type, all of which :func:`parse` can
    name.
    """
    chosen = {each.transform_type: each for each in proposal.transforms}

    def number(transform_type: TransformType, default: int) -> int:
        return chosen[transform_type].transform_id if transform_type in chosen else default

    encryption, key_bits = None, 0
    if TransformType.ENCR in chosen:
        encryption = Encr(chosen[TransformType.ENCR].transform_id)
        key_bits = chosen[TransformType.ENCR].key_bits or (256 if encryption == Encr.CHACHA20_POLY1305 else 0)
    integrity = Integ(number(TransformType.INTEG, Integ.NONE))
    prf = Prf(chosen[TransformType.PRF].transform_id) if TransformType.PRF in chosen else None
    group = Ke(number(TransformType.KE, Ke.NONE))
    additional = tuple(
        (each, Ke(chosen[each].transform_id))
        for each in ADDITIONAL_KEY_EXCHANGES
        if number(each, Ke.NONE) != Ke.NONE
    )
    esn = number(TransformType.ESN, Esn.NO_ESN) == Esn.ESN
    return Suite(
        ProtocolId(proposal.protocol), encryption, key_bits, integrity, prf, group, additional, esn, proposal
    )


def _words() -> dict[str, Transform]:
    words = {
        "null": Transform(TransformType.ENCR, Encr.NULL),
        "chacha20poly1305": Transform(TransformType.ENCR, Encr.CHACHA20_POLY1305),
        "noesn": Transform(TransformType.ESN, Esn.NO_ESN),
        "esn": Transform(TransformType.ESN, Esn.ESN),
    }
    for bits in (128, 192, 256):
        for mode, number in (
            ("", Encr.AES_CBC),
            ("ctr", Encr.AES_CTR),
            ("gmac", Encr.NULL_AES_GMAC),
            ("gcm8", Encr.AES_GCM_8),
            ("gcm12", Encr.AES_GCM_12),
            ("gcm16", Encr.AES_GCM_16),
            ("ccm8", Encr.AES_CCM_8),
            ("ccm12", Encr.AES_CCM_12),
            ("ccm16", Encr.AES_CCM_16),
        ):
            words[f"aes{bits}{mode}"] = Transform(TransformType.ENCR, number, bits)
    for name, integrity, prf in (
        ("sha1", Integ.HMAC_SHA1_96, Prf.HMAC_SHA1),
        ("sha256", Integ.HMAC_SHA2_256_128, Prf.HMAC_SHA2_256),
        ("sha384", Integ.HMAC_SHA2_384_192, Prf.HMAC_SHA2_384),
        ("sha512", Integ.HMAC_SHA2_512_256, Prf.HMAC_SHA2_512),
    ):
        words[name], words[f"prf{name}"] = (
            Transform(TransformType.INTEG, integrity),
            Transform(TransformType.PRF, prf),
        )
    for name, method in METHODS.items():
        words[name] = Transform(TransformType.KE, method)
        for count, kind in enumerate(ADDITIONAL_KEY_EXCHANGES, 1):
            words[f"ke{count}_{name}"] = Transform(kind, method)
    words["noke"] = words.pop("none")
    return words


METHODS = {
    "modp2048": Ke.MODP_2048,
    "modp3072": Ke.MODP_3072,
    "modp4096": Ke.MODP_4096,
    "ecp256": Ke.ECP_256,
    "ecp384": Ke.ECP_384,
    "ecp521": Ke.ECP_521,
    "curve25519": Ke.CURVE25519,
    "mlkem512": Ke.ML_KEM_512,
    "mlkem768": Ke.ML_KEM_768,
    "mlkem1024": Ke.ML_KEM_1024,
    "none": Ke.NONE,
}
WORDS = _words()
_TEXT = {transform: word for word, transform in WORDS.items()}
ALIASES = {
    "x25519": "curve25519",
    "sha": "sha1",
    "sha2_256": "sha256",
    "sha2_384": "sha384",
    "sha2_512": "sha512",
    **{
        f"aes{bits}{mode}{icv}": f"aes{bits}{mode}{size}"
        for bits in (128, 192, 256)
        for mode in ("gcm", "ccm")
        for icv, size in (("64", "8"), ("96", "12"), ("128", "16"), ("", "16"))
    },
}
"""Other words of strongSwan's for the same."""
_PRF_OF: dict[int, Prf] = {
    Integ.HMAC_SHA1_96: Prf.HMAC_SHA1,
    Integ.HMAC_SHA2_256_128: Prf.HMAC_SHA2_256,
    Integ.HMAC_SHA2_384_192: Prf.HMAC_SHA2_384,
    Integ.HMAC_SHA2_512_256: Prf.HMAC_SHA2_512,
}


def parse(text: str, protocol: ProtocolId) -> Proposal:
    """A proposal from words such as ``aes256gcm16-prfsha384-ecp384-ke1_mlkem768``; several of a kind are
    alternatives.

    The words are strongSwan's. For IKE without a prf the integrity algorithms say which; for ESP and AH
    without ``esn`` it is ``noesn``. ``ke1_none`` makes an additional key exchange optional, ``noke`` that
    of a child.

    Raises
    ------
    InputError
        Names the word that is not known or the kind that is missing.
    """

    def refuse(why: str) -> NoReturn:
        raise InputError(f"proposal {text!r}: {why}")

    transforms: list[Transform] = []
    for word in text.lower().split("-"):
        transform = WORDS.get(ALIASES.get(word, word))
        if transform is None:
            refuse(
                f"{word!r} is no algorithm; expected words such as aes256gcm16, sha256, prfsha384, ecp384, "
                "ke1_mlkem768"
            )
        if transform not in transforms:
            transforms.append(transform)

    def of(kind: TransformType) -> list[Transform]:
        return [each for each in transforms if each.transform_type == kind]

    ciphers, integrity = of(TransformType.ENCR), of(TransformType.INTEG)
    if protocol == ProtocolId.AH:
        if ciphers or not integrity:
            refuse("AH wants an integrity algorithm and no cipher")
    else:
        combined = {bool(CIPHERS[each.transform_id][1]) for each in ciphers}
        if len(combined) != 1:
            refuse("expected ciphers, either all of them combined modes such as aes256gcm16, or none")
        if combined == {bool(integrity)}:
            refuse("an integrity algorithm goes with ciphers that do not authenticate, and with no others")
    if protocol == ProtocolId.IKE:
        if any(each.transform_id in NOT_FOR_IKE for each in ciphers):
            refuse("IKE wants a cipher such as aes256gcm16, aes256 or chacha20poly1305")
        if not of(TransformType.PRF):
            transforms += [Transform(TransformType.PRF, _PRF_OF[each.transform_id]) for each in integrity]
        if not of(TransformType.PRF):
            refuse("expected a prf such as prfsha256")
        if Ke.NONE in {each.transform_id for each in of(TransformType.KE)} or not of(TransformType.KE):
            refuse("expected a key exchange such as ecp384")
        if of(TransformType.ESN):
            refuse("esn is not for IKE")
    else:
        if of(TransformType.PRF):
            refuse("a prf is for IKE only")
        if not of(TransformType.ESN):
            transforms.append(WORDS["noesn"])
        if any(of(each) for each in ADDITIONAL_KEY_EXCHANGES) and not of(TransformType.KE):
            refuse("additional key exchanges want a first one such as ecp384")
    return Proposal(1, protocol, b"", tuple(sorted(transforms, key=lambda each: each.transform_type)))


def text(proposal: Proposal) -> str:
    """The words of a proposal, as :func:`parse` reads them; what it cannot name, as type and number."""
    order = (TransformType.ENCR, TransformType.INTEG, TransformType.PRF)
    rest = [each for each in proposal.transforms if each.transform_type not in order]
    return "-".join(
        _TEXT.get(each, str(each).lower().replace(" ", "_"))
        for each in (*(found for kind in order for found in proposal.of(kind)), *rest)
        if each != Transform(TransformType.INTEG, Integ.NONE)
    )


def texts(proposals: Iterable[Proposal]) -> str:
    """An offer for the log, cut where it gets long."""
    named = ", ".join(map(text, proposals))
    return named if len(named) <= MAX_TEXT else named[: MAX_TEXT - 4] + " ..."


def _without_key_exchange(proposal: Proposal) -> Proposal:
    return replace(
        proposal,
        transforms=tuple(each for each in proposal.transforms if each.transform_type not in _KEY_EXCHANGES),
    )


def offer(
    proposals: Iterable[Proposal], spi: bytes = b"", *, key_exchange: bool = True
) -> tuple[Proposal, ...]:
    """Proposals as an initiator sends them: numbered from 1, with ``spi`` (empty in IKE_SA_INIT, 8 bytes in
    an IKE rekey, 4 of a child). Without ``key_exchange``: no KE, no ADDKE (children of IKE_AUTH).
    """
    if not key_exchange:
        proposals = dict.fromkeys(map(_without_key_exchange, proposals))
    return tuple(replace(each, number=number, spi=spi) for number, each in enumerate(proposals, 1))


def _types(*proposals: Proposal) -> list[int]:
    return sorted({each.transform_type for proposal in proposals for each in proposal.transforms})


def _may_lack(kind: int, esn_required: bool) -> bool:
    """Whether a proposal without a transform of ``kind`` means its id 0. RFC 7296 3.3.3 wants ESN named;
    peers in the field leave it out and mean no ESN."""
    return kind in _OPTIONAL or kind == TransformType.ESN and not esn_required


def _agree(offered: Proposal, ours: Proposal, group: int | None, esn_required: bool) -> Proposal | None:
    """The offer, cut down to one transform of each type that both have."""
    if offered.protocol != ours.protocol:
        return None
    chosen, methods = [], set()
    for kind in _types(offered, ours):
        none = [Transform(kind, 0)] if _may_lack(kind, esn_required) else []
        explicit = offered.of(kind)
        common = [each for each in ours.of(kind) or none if each in (explicit or none)]
        if kind in _KEY_EXCHANGES:  # each method once, RFC 9370 2.2.1
            common = [each for each in common if each.transform_id not in methods]
        if kind == TransformType.KE:
            common.sort(key=lambda each: each.transform_id != group)
        if not common:
            return None
        if kind in _KEY_EXCHANGES and common[0].transform_id != Ke.NONE:
            methods.add(common[0].transform_id)
        if explicit:
            chosen.append(common[0])
    return replace(offered, transforms=tuple(chosen))


def choose(
    offers: Sequence[Proposal],
    ours: Sequence[Proposal],
    *,
    key_exchange: bool = True,
    group: int | None = None,
    esn_required: bool = False,
) -> Suite:
    """The responder's choice: the first of the peer's proposals that agrees with one of ours, our
    preference within.

    Parameters
    ----------
    offers
        The SA payload's.
    ours
        In order of preference, from :func:`parse`.
    key_exchange
        False: KE and ADDKE are not looked at, on either side (children of IKE_AUTH).
    group
        Method of the KE payload that came; preferred where several agree, so that INVALID_KE_PAYLOAD is not
        needed. The caller compares it with the suite's ``group``.
    esn_required
        A proposal of ESP or AH without an ESN transform is refused, as RFC 7296 3.3.3 has it; otherwise it
        means no ESN.

    Raises
    ------
    NoProposalChosen
    """
    for offered in offers:
        for own in ours:
            if not key_exchange:
                offered, own = _without_key_exchange(offered), _without_key_exchange(own)
            agreed = _agree(offered, own, group, esn_required)
            if agreed is not None:
                return suite_of(agreed)
    raise NoProposalChosen(f"none of the peer's proposals is acceptable: {texts(offers)}")


def check(chosen: Sequence[Proposal], offers: Sequence[Proposal], *, esn_required: bool = False) -> Suite:
    """What the initiator makes of the answer; ``esn_required`` as in :func:`choose`.

    Raises
    ------
    NoProposalChosen
        It is not exactly one of ``offers`` with one transform of each type and an SPI of the same length.
    """
    if len(chosen) != 1:
        raise NoProposalChosen(f"{len(chosen)} proposals in the answer where one is expected")
    answer = chosen[0]
    offered = next((each for each in offers if each.number == answer.number), None)
    if offered is None or offered.protocol != answer.protocol or len(offered.spi) != len(answer.spi):
        raise NoProposalChosen(
            f"the answer chooses proposal {answer.number}, which was not offered like that"
        )
    for kind in _types(offered, answer):
        found, options = answer.of(kind), offered.of(kind)
        missing_is_fine = _may_lack(kind, esn_required) and (not options or Transform(kind, 0) in options)
        if not (len(found) == 1 and found[0] in options or not found and missing_is_fine):
            raise NoProposalChosen(f"the answer {text(answer)} is not one of what was offered")
    suite = suite_of(answer)
    methods = [suite.group, *(method for _, method in suite.additional)]
    if len(set(methods)) != len(methods):
        raise NoProposalChosen("the answer chooses one key exchange method twice")
    return suite


_GROUPS = "ecp384-ecp256-ecp521-curve25519-modp3072-modp4096-modp2048"
IKE_DEFAULT: tuple[Proposal, ...] = (
    parse(
        f"aes256gcm16-aes128gcm16-chacha20poly1305-prfsha384-prfsha256-prfsha512-{_GROUPS}", ProtocolId.IKE
    ),
    parse(f"aes256-aes128-sha384-sha256-sha512-{_GROUPS}", ProtocolId.IKE),
)
"""What is offered and accepted for IKE where the configuration says nothing."""
ESP_DEFAULT: tuple[Proposal, ...] = (
    parse("aes256gcm16-aes128gcm16-noesn-esn", ProtocolId.ESP),
    parse("aes256-aes128-sha384-sha256-sha512-noesn-esn", ProtocolId.ESP),
)
AH_DEFAULT: tuple[Proposal, ...] = (parse("sha384-sha256-sha512-noesn-esn", ProtocolId.AH),)
