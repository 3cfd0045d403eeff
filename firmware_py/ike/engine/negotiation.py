# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""What a child SA carries and how it is protected: offered, answered and accepted (RFC 7296 2.7, 2.9,
1.3.1).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from ipaddress import ip_network
from typing import TYPE_CHECKING, TypeVar

from spigate.firmware_py.ike.crypto import proposals
from spigate.firmware_py.ike.crypto.key_exchange import start
from spigate.firmware_py.ike.crypto.proposals import Suite
from spigate.firmware_py.ike.engine.children import Agreement
from spigate.firmware_py.ike.engine.exchange import says
from spigate.firmware_py.ike.engine.holdings import FIRST_SPI, Holdings
from spigate.firmware_py.ike.engine.nat import Path
from spigate.firmware_py.ike.peers.pad import ChildConfig
from spigate.firmware_py.ike.wire import selectors
from spigate.firmware_py.ike.wire.errors import (
    InvalidKePayload,
    InvalidSyntax,
    NoProposalChosen,
    PeerError,
    TsUnacceptable,
)
from spigate.firmware_py.ike.wire.message import Message
from spigate.firmware_py.ike.wire.payloads import (
    KeyExchange,
    Notify,
    Payload,
    SecurityAssociation,
    TrafficSelectors,
    TsI,
    TsR,
)
from spigate.firmware_py.ike.wire.registry import Ke, NotifyType, ProtocolId, TransformType
from spigate.firmware_py.ike.wire.structures import Proposal, TrafficSelector
from spigate.firmware_py.ipsec.sa import Selectors
from spigate.hdl.contract.enums import Mode

if TYPE_CHECKING:
    from spigate.firmware_py.ike.engine.ike_sa import IkeSa

MOST_PARTS = 16
"""Child SAs of one configured child that a peer's ADDITIONAL_TS_POSSIBLE may make."""
_Side = TypeVar("_Side", bound=TrafficSelectors)


def first_group(offered: tuple[Proposal, ...]) -> int:
    """The method whose public value goes along with an offer."""
    return next(
        (each.transform_id for proposal in offered for each in proposal.of(TransformType.KE)), Ke.NONE
    )


def groups(offered: tuple[Proposal, ...]) -> set[int]:
    """All methods of an offer."""
    return {each.transform_id for proposal in offered for each in proposal.of(TransformType.KE)} - {Ke.NONE}


class Offer:
    """An initiator's offer of a child SA.

    Parameters
    ----------
    ike : IkeSa
    config : ChildConfig
    key_exchange : bool
        False: with the IKE SA's own, as in IKE_AUTH.
    group : int or None
        Method whose public value goes along; None: the first.
    packet : Selectors or None
        The packet that is waiting for the child (RFC 7296 2.9).
    held : Holdings
        Of the exchange: the SPI goes there.
    """

    def __init__(
        self,
        ike: "IkeSa",
        config: ChildConfig,
        held: Holdings,
        *,
        key_exchange: bool,
        group: int | None = None,
        packet: Selectors | None = None,
    ):
        self.config = config
        self.spi = held.child_spi()
        self.proposals = proposals.offer(config.proposals, self.spi.to_bytes(4), key_exchange=key_exchange)
        self._traffic = selectors.payloads(traffic_of(config, ike.path), packet)
        self._rest: tuple[Selectors, ...] = ()
        group = first_group(self.proposals) if group is None else group
        self.initiating = start(group) if group != Ke.NONE else None

    def payloads(self, *keys: Payload) -> list[Payload]:
        """Of the request; ``keys`` (nonce, KE) stand behind the SA."""
        transport = [Notify(NotifyType.USE_TRANSPORT_MODE)] if self.config.mode == Mode.TRANSPORT else []
        return [*transport, SecurityAssociation(self.proposals), *keys, *self._traffic]

    def accept(self, ike: "IkeSa", message: Message) -> Agreement:
        """What the answer makes of it.

        Raises
        ------
        PeerError
            The answer is not within the offer. The peer may believe that there is a child SA now.
        """
        suite = proposals.check(
            message.one(SecurityAssociation).proposals,
            self.proposals,
            esn_required=ike.context.settings.esn_required,
        )
        transport = message.notify(NotifyType.USE_TRANSPORT_MODE) is not None
        if transport != (self.config.mode == Mode.TRANSPORT):
            raise NoProposalChosen(
                "the peer wants tunnel mode" if not transport else "the peer wants transport mode"
            )
        tsi, tsr = message.one(TsI), message.one(TsR)
        if transport and ike.path.nat:
            tsi, tsr = (
                selectors.readdress(tsi, ike.path.local.address),
                selectors.readdress(tsr, ike.path.remote.address),
            )
        selectors.check(tsi, tsr, self._traffic)
        traffic = selectors.to_selectors(tsi, tsr)
        if message.notify(NotifyType.ADDITIONAL_TS_POSSIBLE) is not None:
            self._rest = selectors.without(self.config.traffic, traffic)
        return Agreement(self.config, suite, self.config.mode, traffic, self.spi, peer_spi(suite))

    def rest(self, ike: "IkeSa") -> list[ChildConfig]:
        """What is still to be asked for after the answer: the peer narrowed the offer, and says that it
        would take more of it in other child SAs (ADDITIONAL_TS_POSSIBLE, RFC 7296 2.9)."""
        made = sum(child.config.name == self.config.name for child in ike.children.values())
        parts = selectors.products(self._rest) if self._rest else []
        return [replace(self.config, traffic=part, reqid=0) for part in parts[: max(0, MOST_PARTS - made)]]

    def single_pair(self, error: Notify, packet: Selectors | None) -> ChildConfig | None:
        """What is to be asked for instead where the peer says SINGLE_PAIR_REQUIRED (RFC 7296 2.9): the two
        hosts of ``packet``, or without one the first two. None: it says something else, or this was a
        single pair already."""
        if error.notify_type != NotifyType.SINGLE_PAIR_REQUIRED or not self.config.traffic:
            return None
        single = selectors.single(self.config.traffic, packet)
        return replace(self.config, traffic=(single,), reqid=0) if self.config.traffic != (single,) else None

    def refused(self, error: Notify) -> str:
        """The peer's refusal for the log, with what was offered where that is what is wrong."""
        texts: dict[int, Callable[[], str]] = {
            NotifyType.NO_PROPOSAL_CHOSEN: lambda: proposals.texts(self.proposals),
            NotifyType.TS_UNACCEPTABLE: lambda: selectors.text(*self._traffic),
        }
        offered = texts.get(error.notify_type)
        said = f"{self.config.label}: the peer says {says(error)}"
        return f"{said}; offered was {offered()}" if offered is not None else said


def peer_spi(suite: Suite) -> int:
    """What the peer receives a child on. Raises InvalidSyntax."""
    spi = int.from_bytes(suite.peer_spi)
    if len(suite.peer_spi) != 4 or spi < FIRST_SPI:
        raise InvalidSyntax(f"SPI {suite.peer_spi.hex() or 'of no bytes'} for a child SA")
    return spi


def traffic_of(config: ChildConfig, path: Path) -> tuple[Selectors, ...]:
    """What a child may carry on a path; source: this side."""
    return config.traffic or (Selectors(ip_network(path.local.address), ip_network(path.remote.address)),)


@dataclass(frozen=True)
class Answer:
    """A responder's answer: what is agreed on, the traffic selectors that say it to the peer, and whether
    another child SA may have ``more`` of the offer."""

    agreement: Agreement
    tsi: TsI
    tsr: TsR
    more: bool = False

    def payloads(self, *keys: Payload) -> list[Payload]:
        """Of the response; ``keys`` (nonce, KE) stand behind the SA."""
        transport = [Notify(NotifyType.USE_TRANSPORT_MODE)] if self.agreement.mode == Mode.TRANSPORT else []
        sa = self.agreement.suite.answer(self.agreement.spi_in.to_bytes(4))
        more = [Notify(NotifyType.ADDITIONAL_TS_POSSIBLE)] if self.more else []
        return [*transport, *more, sa, *keys, self.tsi, self.tsr]


def answer(
    ike: "IkeSa", message: Message, configs: tuple[ChildConfig, ...], held: Holdings, *, key_exchange: bool
) -> Answer:
    """Answers a peer's offer.

    Parameters
    ----------
    configs
        What may be agreed on, in order.
    held
        Of the exchange: the SPI goes there.

    Raises
    ------
    NoProposalChosen, TsUnacceptable, InvalidKePayload, InvalidSyntax
    """
    offered = message.one(SecurityAssociation).proposals
    wanted = Mode.TRANSPORT if message.notify(NotifyType.USE_TRANSPORT_MODE) is not None else Mode.TUNNEL
    allowed = [
        config for config in configs if config.mode in (wanted, Mode.TUNNEL)
    ]  # transport is a wish, tunnel not
    error: PeerError = TsUnacceptable("no child is configured for this traffic")
    if not allowed and configs:
        error = NoProposalChosen("the peer wants tunnel mode, and transport mode is configured")
    for config in sorted(
        allowed, key=lambda each: (each.mode != wanted, not _takes_first(ike, message, each))
    ):
        try:
            return _agree(ike, message, offered, config, held, key_exchange, configs)
        except (NoProposalChosen, TsUnacceptable) as refused:
            if not (isinstance(error, NoProposalChosen) and isinstance(refused, TsUnacceptable)):
                error = refused
    raise error


def _takes_first(ike: "IkeSa", message: Message, config: ChildConfig) -> bool:
    """Whether ``config`` is about the first of the peer's selectors, which may be those of a packet that
    waits (2.9).
    """
    first_i, first_r = (
        replace(each, selectors=each.selectors[:1]) for each in (message.one(TsI), message.one(TsR))
    )
    try:
        selectors.narrow(first_i, first_r, selectors.reverse(traffic_of(config, ike.path)))
    except TsUnacceptable:
        return False
    return True


def _agree(
    ike: "IkeSa",
    message: Message,
    offered: tuple[Proposal, ...],
    config: ChildConfig,
    held: Holdings,
    key_exchange: bool,
    configs: tuple[ChildConfig, ...],
) -> Answer:
    path, tsi, tsr = ike.path, message.one(TsI), message.one(TsR)
    moved = config.mode == Mode.TRANSPORT and path.nat
    if moved:
        tsi, tsr = selectors.readdress(tsi, path.remote.address), selectors.readdress(tsr, path.local.address)
    if config.protocol == ProtocolId.AH and path.nat:
        raise NoProposalChosen("AH does not pass a NAT")
    offer, (tsi, tsr) = (tsi, tsr), selectors.narrow(tsi, tsr, selectors.reverse(traffic_of(config, path)))
    traffic = selectors.reverse(
        selectors.to_selectors(tsi, tsr)
    )  # first, because it refuses what has too many pairs
    ours = [
        pair
        for each in configs
        if each.mode == config.mode
        for pair in selectors.reverse(traffic_of(each, path))
    ]
    more = selectors.leaves(*offer, (tsi, tsr), ours)
    public = message.optional(KeyExchange)
    suite = proposals.choose(
        offered,
        config.proposals,
        key_exchange=key_exchange,
        group=public.group if public is not None else None,
        esn_required=ike.context.settings.esn_required,
    )
    if suite.group != Ke.NONE and (public is None or public.group != suite.group):
        raise InvalidKePayload(suite.group)
    spi_out = peer_spi(suite)
    if moved:
        tsi, tsr = _back(tsi, message.one(TsI)), _back(tsr, message.one(TsR))
    if len(config.parts) > 1:  # so that it can be offered when the child is replaced
        config = replace(config, traffic=traffic)
    return Answer(Agreement(config, suite, config.mode, traffic, held.child_spi(), spi_out), tsi, tsr, more)


def _back(payload: _Side, offered: _Side) -> _Side:
    """Transport mode through a NAT, for the answer: the address that the peer offered (RFC 7296 2.23.1)."""
    hosts = (
        each for each in offered.selectors if isinstance(each, TrafficSelector) and each.start == each.end
    )
    first = next(hosts, None)
    return payload if first is None else selectors.readdress(payload, first.start)
