# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""CREATE_CHILD_SA (RFC 7296 1.3): new child SAs and new ones for old, with the collision rules of 2.8.1 and
2.25.1.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from spigate.firmware_py.ike.crypto import keys
from spigate.firmware_py.ike.crypto.proposals import Suite
from spigate.firmware_py.ike.engine import negotiation
from spigate.firmware_py.ike.engine.actions import EventKind
from spigate.firmware_py.ike.engine.children import Agreement, ChildSa, ChildState
from spigate.firmware_py.ike.engine.exchange import Reply, refusal
from spigate.firmware_py.ike.engine.holdings import Holdings
from spigate.firmware_py.ike.engine.informational import DeleteChild, DeleteSpi
from spigate.firmware_py.ike.engine.keyed_exchange import (
    NONCE_BYTES,
    TRIES,
    Creating,
    FollowUp,
    complete_or_follow,
    respond,
)
from spigate.firmware_py.ike.engine.state import State
from spigate.firmware_py.ike.peers.pad import ChildConfig
from spigate.firmware_py.ike.wire.errors import NoProposalChosen, PeerError, TsUnacceptable
from spigate.firmware_py.ike.wire.message import Message
from spigate.firmware_py.ike.wire.payloads import Nonce, Notify, Payload
from spigate.firmware_py.ike.wire.registry import NotifyType
from spigate.firmware_py.ipsec.sa import Selectors

if TYPE_CHECKING:
    from spigate.firmware_py.ike.engine.ike_sa import IkeSa


PAIRS_PER_CHILD = 16
"""So many pairs of networks the child SAs of one identity have at most, on average: each is a policy, and
they are looked through.
"""


class CreateChild(Creating):
    """A new child SA.

    Parameters
    ----------
    config : ChildConfig
    replaces : ChildSa or None
        The one that it is to replace.
    packet : Selectors or None
        The packet that is waiting for it.
    """

    def __init__(
        self,
        config: ChildConfig,
        *,
        replaces: ChildSa | None = None,
        packet: Selectors | None = None,
        group: int | None = None,
        tries: int = TRIES,
    ):
        super().__init__(group=group, tries=tries)
        self.config = config
        self.replaces = replaces
        self.packet = packet
        self._offer: negotiation.Offer
        self._agreement: Agreement

    def again(self, *, group: int | None = None, tries: int) -> "CreateChild":
        return CreateChild(self.config, replaces=self.replaces, packet=self.packet, group=group, tries=tries)

    def groups(self) -> set[int]:
        return negotiation.groups(self._offer.proposals)

    def request(self, ike: "IkeSa", now: float) -> Iterable[Payload] | None:
        old = self.replaces
        rekeys: list[Payload] = []
        if not ike.alive:
            return None
        if old is not None:
            if old.state != ChildState.INSTALLED:
                return None
            old.rekeying = self
            self.held.at_release(lambda: old.rekeying_is_over(self, ike.context.boundary.now))
            rekeys = [
                Notify(NotifyType.REKEY_SA, protocol=old.config.protocol, spi=old.inbound.spi.to_bytes(4))
            ]
        self._offer = negotiation.Offer(
            ike, self.config, self.held, key_exchange=True, group=self.group, packet=self.packet
        )
        self.initiating = self._offer.initiating
        return [*rekeys, *self._offer.payloads(*self.keys_of_request(ike))]

    def accept(self, ike: "IkeSa", message: Message) -> Suite:
        self._agreement = self._offer.accept(ike, message)
        return self._agreement.suite

    def finish(self, ike: "IkeSa", now: float, secrets: list[bytes]) -> None:
        old, agreement = self.replaces, self._agreement
        if (
            ike.state == State.DELETING
        ):  # for the peer it goes with the IKE SA; a late answer gives that no other end
            return
        if (agreement.suite.protocol, agreement.spi_out.to_bytes(4)) in ike.stillborn:
            return
        reqid = old.reqid if old is not None else reqid_of(ike, agreement)
        child = make_child(ike, agreement, self.ni, self.nr, secrets, self.held, initiator=True, reqid=reqid)
        if old is None:
            child.install(now, outbound=True)
            ike.event(EventKind.CHILD_UP, str(child), self.config.name)
            for rest in self._offer.rest(ike):
                ike.submit(CreateChild(rest), now)
            return
        rival = old.live_rival
        if rival is not None and min(self.ni, self.nr) < rival[1]:  # RFC 7296 2.8.1: this one is redundant
            child.install(now, outbound=False)
            if old.state == ChildState.GONE:
                rival[0].use()
            else:
                old.replace_by(rival[0], now)
            ike.submit_first(DeleteChild(child, "made redundant by the peer's"), now)
            return
        child.install(now, outbound=True)
        if (
            ike.pending is not None and ike.pending.replaces is old
        ):  # whose key exchanges are through first is what both have
            ike.drop_pending()
        if old.state != ChildState.GONE:
            old.replace_by(child, now)
            ike.submit_first(DeleteChild(old, "rekeyed"), now)

    def refused(self, ike: "IkeSa", now: float, error: Notify) -> None:
        old = self.replaces
        if old is not None and (old.live_rival is not None or old.state != ChildState.INSTALLED):
            return  # the peer's exchange replaced it, or it is not wanted any more
        if error.notify_type == NotifyType.CHILD_SA_NOT_FOUND and old is not None:
            old.remove(now, "the peer does not know it")
            ike.submit(CreateChild(self.config), now)
            return
        single = self._offer.single_pair(error, self.packet)
        if single is not None:
            ike.submit_first(CreateChild(single, replaces=old), now)
            return
        ike.event(EventKind.CHILD_FAILED, self._offer.refused(error), self.config.name)

    def unacceptable(self, ike: "IkeSa", now: float, error: PeerError) -> None:
        ike.submit_first(DeleteSpi(self.config.protocol, self._offer.spi), now)
        ike.event(EventKind.CHILD_FAILED, f"{self.config.label}: {error}", self.config.name)


def reqid_of(ike: "IkeSa", agreement: Agreement) -> int:
    """What ties a new child SA to its policies: what the one that the same peer has for the same traffic is
    tied with. So both are behind one policy, and the newest sends: a peer that was killed and begins anew
    is reached, whatever it says of it.
    """
    if agreement.config.reqid:
        return agreement.config.reqid

    def same(other: Agreement) -> bool:
        return (
            other.config.name == agreement.config.name
            and other.mode == agreement.mode
            and other.suite.protocol == agreement.suite.protocol
            and set(other.traffic) == set(agreement.traffic)
        )

    known = (
        child.reqid
        for other in ike.context.with_peer(ike.entry)
        if other.identity == ike.identity
        for child in other.children.values()
        if same(child.agreement)
    )
    return next(known, 0) or ike.context.reqid()


def make_child(
    ike: "IkeSa",
    agreement: Agreement,
    ni: bytes,
    nr: bytes,
    secrets: list[bytes],
    held: Holdings,
    *,
    initiator: bool,
    reqid: int,
) -> ChildSa:
    """A child SA with keys from the nonces, and from key exchanges of its own where it had some. It takes
    its SPI out of what is ``held`` when it is installed."""
    material = keys.child_keys(ike.suite.prf, ike.keys.d, agreement.suite, ni, nr, secrets)
    return ChildSa(ike, agreement, material, initiator, reqid, held)


def answer(ike: "IkeSa", now: float, message: Message) -> Reply:
    """A peer's CREATE_CHILD_SA that makes a child SA."""
    if not ike.alive or ike.rekeying:
        return refusal(NotifyType.TEMPORARY_FAILURE)
    rekeyed = message.notify(NotifyType.REKEY_SA)
    if is_full(ike):
        return refusal(NotifyType.NO_ADDITIONAL_SAS)
    if rekeyed is None:
        return _answer_child(ike, now, message, None)
    old = find(ike, rekeyed.protocol, rekeyed.spi)
    if old is None and isinstance(
        ike.active, Creating | FollowUp
    ):  # the peer may be ahead, and mean what that makes
        return refusal(NotifyType.TEMPORARY_FAILURE)
    if old is None:
        return Reply((Notify(NotifyType.CHILD_SA_NOT_FOUND, protocol=rekeyed.protocol, spi=rekeyed.spi),))
    if old.state != ChildState.INSTALLED or old.live_rival is not None:
        return refusal(NotifyType.TEMPORARY_FAILURE)
    return _answer_child(ike, now, message, old)


def is_full(ike: "IkeSa") -> bool:
    """Whether the peer's identity has all the child SAs that it may have, on all its IKE SAs, or all the
    pairs of networks in them.
    """
    most = ike.context.settings.children_per_identity
    pairs = [
        len(child.agreement.traffic)
        for each in ike.context.ikes.values()
        if each.peer is ike.peer and each.identity == ike.identity
        for child in each.children.values()
    ]
    return len(pairs) >= most or sum(pairs) >= PAIRS_PER_CHILD * most


def find(ike: "IkeSa", protocol: int, spi: bytes) -> ChildSa | None:
    """The child SA that a peer names by the SPI that it receives on."""
    number = int.from_bytes(spi)
    return next(
        (
            child
            for child in ike.children.values()
            if child.outbound.spi == number and child.config.protocol == protocol
        ),
        None,
    )


def _answer_child(ike: "IkeSa", now: float, message: Message, old: ChildSa | None) -> Reply:
    configs = (old.config,) if old is not None else ike.entry.children
    with Holdings(ike.context) as held:
        try:
            answered = negotiation.answer(ike, message, configs, held, key_exchange=True)
        except (NoProposalChosen, TsUnacceptable) as error:
            ike.event(EventKind.CHILD_FAILED, f"the peer's offer: {error}")
            return Reply((Notify(error.notify),))
        agreement = answered.agreement
        ni, nr = message.one(Nonce).data, ike.context.random(NONCE_BYTES)
        secrets, public = respond(agreement.suite, message)

        def complete(secrets: list[bytes], held: Holdings) -> None:
            then = ike.context.boundary.now
            reqid = old.reqid if old is not None else reqid_of(ike, agreement)
            child = make_child(ike, agreement, ni, nr, secrets, held, initiator=False, reqid=reqid)
            child.install(then, outbound=old is None or old.state == ChildState.GONE)
            if old is None:
                ike.event(EventKind.CHILD_UP, str(child), agreement.config.name)
            elif old.rekeying:
                old.rival = (child, min(ni, nr))
            elif old.state != ChildState.GONE:
                old.replace_by(child, then)

        return complete_or_follow(
            ike, now, agreement.suite, secrets, complete, answered.payloads(Nonce(nr), *public), held, old
        )
