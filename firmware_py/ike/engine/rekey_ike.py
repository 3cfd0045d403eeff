# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Rekeying of the IKE SA itself (RFC 7296 1.3.2, 2.18), with the collision rules of 2.8.2 and 2.25.2."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from spigate.firmware_py.ike.crypto import keys, proposals
from spigate.firmware_py.ike.crypto.key_exchange import start
from spigate.firmware_py.ike.crypto.proposals import Suite
from spigate.firmware_py.ike.engine import negotiation
from spigate.firmware_py.ike.engine.actions import EventKind
from spigate.firmware_py.ike.engine.create_child import CreateChild
from spigate.firmware_py.ike.engine.exchange import Reply, Sent, refusal, says
from spigate.firmware_py.ike.engine.holdings import Holdings
from spigate.firmware_py.ike.engine.informational import DeleteChild
from spigate.firmware_py.ike.engine.keyed_exchange import (
    NONCE_BYTES,
    TRIES,
    Creating,
    FollowUp,
    complete_or_follow,
    respond,
)
from spigate.firmware_py.ike.engine.state import State
from spigate.firmware_py.ike.wire.errors import InvalidKePayload, InvalidSyntax, NoProposalChosen, PeerError
from spigate.firmware_py.ike.wire.message import Message
from spigate.firmware_py.ike.wire.payloads import KeyExchange, Nonce, Notify, Payload, SecurityAssociation
from spigate.firmware_py.ike.wire.registry import Ke, NotifyType
from spigate.firmware_py.ike.wire.structures import Proposal

if TYPE_CHECKING:
    from spigate.firmware_py.ike.engine.ike_sa import IkeSa

REDUNDANT_SECONDS = 180.0
"""So long an IKE SA waits for its deletion by the peer that replaced it, or made it in vain: longer than
any peer repeats the request that was answered with it."""


class RekeyIke(Creating):
    """Replaces the IKE SA ``target``; its child SAs move to the new one."""

    def __init__(self, target: "IkeSa", *, group: int | None = None, tries: int = TRIES):
        super().__init__(group=group, tries=tries)
        self._target = target
        self._spi = b""
        self._offered: tuple[Proposal, ...] = ()
        self._suite: Suite

    def again(self, *, group: int | None = None, tries: int) -> "RekeyIke":
        return RekeyIke(self._target, group=group, tries=tries)

    def groups(self) -> set[int]:
        return negotiation.groups(self._offered)

    def request(self, ike: "IkeSa", now: float) -> Iterable[Payload] | None:
        if ike is not self._target or not ike.alive:
            return None
        ike.rekeying = self
        self.held.at_release(lambda: ike.rekeying_is_over(self, ike.context.boundary.now))
        self._spi = ike.context.ike_spi()
        self._offered = proposals.offer(ike.entry.proposals, self._spi)
        group = self.group if self.group is not None else ike.suite.group
        if group not in self.groups():
            group = negotiation.first_group(self._offered)
        self.initiating = start(group)
        return [SecurityAssociation(self._offered), *self.keys_of_request(ike)]

    def accept(self, ike: "IkeSa", message: Message) -> Suite:
        self._suite = proposals.check(message.one(SecurityAssociation).proposals, self._offered)
        if self._suite.peer_spi == self._spi or len(self._suite.peer_spi) != 8:
            raise InvalidSyntax("the new IKE SA has no SPI of the peer's")
        return self._suite

    def finish(self, ike: "IkeSa", now: float, secrets: list[bytes]) -> None:
        heir = _heir(ike, now, self._suite, self.ni, self.nr, secrets, initiator=True, spi=self._spi)
        rival = ike.rival
        if rival is not None and min(self.ni, self.nr) < rival[1]:  # RFC 7296 2.8.2: this one is redundant
            ike.hand_over(rival[0], now)
            ike.expire(now, REDUNDANT_SECONDS)
            heir.delete(now, "made redundant by the peer's")
            return
        ike.hand_over(heir, now)
        if rival is not None:
            rival[0].state = State.REKEYED  # the peer deletes it, or it expires
        ike.delete(now, "rekeyed")

    def refused(self, ike: "IkeSa", now: float, error: Notify) -> None:
        if ike.rival is not None:
            return  # the peer's own replaces it
        ike.event(EventKind.REFUSED, f"the IKE SA cannot be rekeyed: the peer says {says(error)}")

    def unacceptable(self, ike: "IkeSa", now: float, error: PeerError) -> None:
        raise error


def _heir(
    ike: "IkeSa",
    now: float,
    suite: Suite,
    ni: bytes,
    nr: bytes,
    secrets: list[bytes],
    *,
    initiator: bool,
    spi: bytes,
) -> "IkeSa":
    """The new IKE SA, on which this side has ``spi``."""
    spi_i, spi_r = (spi, suite.peer_spi) if initiator else (suite.peer_spi, spi)
    seed = keys.skeyseed_rekey(ike.suite.prf, ike.keys.d, secrets, ni, nr)
    return ike.spawn(
        now,
        initiator=initiator,
        spi_i=spi_i,
        spi_r=spi_r,
        suite=suite,
        keys=keys.ike_keys(suite, seed, ni, nr, spi_i, spi_r),
    )


def answer(ike: "IkeSa", now: float, message: Message) -> Reply:
    """A peer's CREATE_CHILD_SA that replaces the IKE SA."""
    busy = (
        isinstance(ike.active, CreateChild | DeleteChild)
        or isinstance(ike.active, FollowUp)
        and not ike.rekeying
    )
    if not ike.alive or busy or ike.rival is not None:
        return refusal(NotifyType.TEMPORARY_FAILURE)
    public = message.one(KeyExchange)
    try:
        suite = proposals.choose(
            message.one(SecurityAssociation).proposals, ike.entry.proposals, group=public.group
        )
    except NoProposalChosen as error:
        ike.event(EventKind.REFUSED, f"the peer would rekey the IKE SA: {error}")
        return refusal(NotifyType.NO_PROPOSAL_CHOSEN)
    if suite.group == Ke.NONE or len(suite.peer_spi) != 8:
        raise InvalidSyntax("an IKE SA without a key exchange or an SPI")
    if suite.group != public.group:
        raise InvalidKePayload(suite.group)
    if suite.peer_spi in ike.context.ikes:
        raise InvalidSyntax("the new IKE SA would have an SPI of this side's for the peer's")
    ni, nr, spi = message.one(Nonce).data, ike.context.random(NONCE_BYTES), ike.context.ike_spi()
    secrets, payload = respond(suite, message)

    def complete(secrets: list[bytes], held: Holdings) -> Sent | None:
        then = ike.context.boundary.now
        heir = _heir(ike, then, suite, ni, nr, secrets, initiator=False, spi=spi)
        if ike.rekeying:
            ike.rival = (heir, min(ni, nr))
            heir.predecessor = ike
            heir.expire(then, REDUNDANT_SECONDS)
            return None
        ike.expire(then, REDUNDANT_SECONDS)
        return lambda answer, datagrams: ike.hand_over(heir, then)

    with Holdings(ike.context) as held:
        return complete_or_follow(
            ike, now, suite, secrets, complete, [suite.answer(spi), Nonce(nr), *payload], held
        )
