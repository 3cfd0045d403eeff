"""What two peers agree on: proposals of algorithms for IKE and child SAs (RFC 7296 2.7, 3.3; RFC 9370)."""
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from spigate.firmware_py.ike.payloads import Proposal, Transform
from spigate.firmware_py.ike.registry import Encr, Integ, Ke, Prf, ProtocolId
from spigate.firmware_py.sa import Auth, Cipher


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
    prf : Prf or None
        IKE only.
    group : Ke
        NONE: no key exchange of its own (a child made in IKE_AUTH, or without perfect forward secrecy).
    additional : tuple of (int, Ke)
        Type (ADDKE1 to 7) and method of the additional key exchanges to be made, in order (RFC 9370); never NONE.
    esn : bool
    proposal : Proposal
        As it goes into an SA payload: the chooser's answer carries it with the SPI replaced.
    """

    protocol: ProtocolId
    encryption: Encr | None
    key_bits: int
    integrity: Integ
    prf: Prf | None
    group: Ke
    additional: tuple[tuple[int, Ke], ...]
    esn: bool
    proposal: Proposal = field(repr=False, compare=False)

    @property
    def cipher(self) -> Cipher:
        """Of a child: as :class:`spigate.firmware_py.sa.Sa` says it."""
        raise NotImplementedError

    @property
    def auth(self) -> Auth:
        """Of a child: as ``Sa`` says it."""
        raise NotImplementedError

    @property
    def icv_bytes(self) -> int:
        """Of a child: as ``Sa`` says it, 0 where the cipher does not authenticate."""
        raise NotImplementedError

    def __str__(self):
        """In strongSwan's manner, as :func:`parse` reads it."""
        raise NotImplementedError


def parse(text: str, protocol: ProtocolId) -> Proposal:
    """A proposal from words such as ``aes256gcm16-prfsha384-ecp384-ke1_mlkem768``; several of a kind are alternatives.

    Numbered 1, without SPI; :func:`offer` numbers. Raises InputError that names the word.
    """
    raise NotImplementedError


def text(proposal: Proposal) -> str:
    """The words of a proposal; what :func:`parse` reads."""
    raise NotImplementedError


def offer(proposals: Iterable[Proposal], spi: bytes, *, key_exchange: bool = True) -> tuple[Proposal, ...]:
    """Proposals as an initiator sends them: numbered from 1, with ``spi`` (empty in IKE_SA_INIT, 8 bytes in an IKE
    rekey, 4 of a child). Without ``key_exchange``: no KE, no ADDKE (children of IKE_AUTH)."""
    raise NotImplementedError


def choose(offers: Sequence[Proposal], ours: Sequence[Proposal], *, key_exchange: bool = True,
           group: int | None = None) -> Suite:
    """The responder's choice: the first of the peer's proposals that agrees with one of ours, our preference within.

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

    Raises
    ------
    NoProposalChosen
    """
    raise NotImplementedError


def check(chosen: Sequence[Proposal], offers: Sequence[Proposal]) -> Suite:
    """What the initiator makes of the answer. Raises NoProposalChosen where it is not one of ``offers``, exactly one
    transform of each type."""
    raise NotImplementedError


def select(offers: Sequence[Proposal], index: int) -> Suite:
    """A suite by fiat, for tests and vectors: the first transform of each type of ``offers[index]``."""
    raise NotImplementedError


IKE_DEFAULT: tuple[Proposal, ...] = ()
"""What is offered and accepted for IKE where the configuration says nothing."""
ESP_DEFAULT: tuple[Proposal, ...] = ()
AH_DEFAULT: tuple[Proposal, ...] = ()

__all__ = ["AH_DEFAULT", "ESP_DEFAULT", "IKE_DEFAULT", "Suite", "Transform", "check", "choose", "offer", "parse", "text"]
