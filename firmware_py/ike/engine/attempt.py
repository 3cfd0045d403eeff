# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""A handshake that this side begins, until somebody is shown to be the peer.

Whoever answers IKE_SA_INIT may be anybody (RFC 7296 2.4). Each answer makes a *candidate*, an IKE SA on
which the handshake goes on; the IKE SA that began, its *root*, waits for others, and for its deadline. The
candidate that is authenticated takes the root's place.
"""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from spigate.firmware_py.ike.engine.actions import EventKind
from spigate.firmware_py.ike.engine.context import Context
from spigate.firmware_py.ike.engine.dialogue import Dialogue
from spigate.firmware_py.ike.engine.exchange import Exchange
from spigate.firmware_py.ike.engine.nat import Path
from spigate.firmware_py.ike.engine.state import State
from spigate.firmware_py.ike.wire.message import Header
from spigate.firmware_py.ike.wire.registry import ExchangeType

if TYPE_CHECKING:
    from spigate.firmware_py.ike.engine.ike_sa import IkeSa
    from spigate.firmware_py.ike.peers.pad import Peer

MAX_CANDIDATES, MAX_CANDIDATES_MADE = 8, 32
"""So many answers to one IKE_SA_INIT are taken for possible at once, and in all."""
CANDIDATE_SECONDS = 1.0
"""So long one waits for another."""
TRIES_IN_VAIN = 2
"""So often IKE_SA_INIT is repeated after an answer that proves nothing said that it is in vain."""


class Attempt(Dialogue):
    """What an IKE SA has of it. Parameters as in :class:`~spigate.firmware_py.ike.engine.dialogue.Dialogue`.

    Members
    -------
    state : State
    peer : Peer or None
    root : IkeSa or None
        Of a candidate: the IKE SA whose IKE_SA_INIT it was made by an answer to. None: it stands by itself.
    candidates : list of IkeSa
        Of a root: those that may still become it.
    """

    state: State
    peer: "Peer | None"
    created: float
    on_gone: "Callable[[float, IkeSa], None]"

    def __init__(
        self,
        context: Context,
        *,
        initiator: bool,
        spi_i: bytes,
        spi_r: bytes,
        path: Path,
        root: "IkeSa | None",
    ):
        super().__init__(context, initiator=initiator, spi_i=spi_i, spi_r=spi_r, path=path)
        self.root = root
        self.candidates: list[IkeSa] = []
        self._candidates_made = 0
        self._first: Exchange | None = None
        self._why = "the peer does not answer"

    @abstractmethod
    def unproved(self, now: float, kind: EventKind, text: str) -> None:
        """An event that anybody may have brought about."""

    @abstractmethod
    def _at(self, when: float, call: Callable[[float], None]) -> None:
        """A timer that ends with the IKE SA."""

    @abstractmethod
    def _leave(self, now: float, why: str = "", linger: bool = False) -> None:
        """Gives back all that it has."""

    def candidate(self, spi_r: bytes, now: float) -> "IkeSa | None":
        """An IKE SA for one answer to this one's IKE_SA_INIT. None: there were too many already."""
        pending = sum(each.state == State.CONNECTING for each in self.candidates)
        if pending >= MAX_CANDIDATES or self._candidates_made >= MAX_CANDIDATES_MADE:
            return None
        self._candidates_made += 1
        made = type(self.ike)(
            self.context,
            initiator=True,
            spi_i=self.spi_i,
            spi_r=spi_r,
            path=replace(self.path),
            peer=self.peer,
            now=now,
            root=self.ike,
        )
        made.begins_with(1)
        self.candidates.append(made)
        return made

    def go_on_with(self, exchange: Exchange, now: float) -> None:
        """A candidate goes on with ``exchange``: at once, where no other one is at it; otherwise when the
        others are lost, or after a while. An IKE_SA_INIT that came twice may have two answers of the
        peer's, of which one is enough.
        """
        assert self.root is not None
        self._first = exchange
        if any(each is not self and each.state == State.CONNECTING for each in self.root.candidates):
            self._at(now + CANDIDATE_SECONDS, self._go_on)
        else:
            self._go_on(now)

    def _go_on(self, now: float) -> None:
        exchange, self._first = self._first, None
        if exchange is not None:
            self.submit_first(exchange, now)

    def addressed(self, header: Header) -> "list[IkeSa]":
        """What a datagram with this side's SPI in its ``header`` is for: SPIs that nobody has shown to be a
        peer's may be several's."""
        if header.spi_i != self.spi_i:
            return []
        if header.exchange == ExchangeType.IKE_SA_INIT:
            return [self.ike] if header.response and self.protection is None else []
        return [
            each
            for each in (self.ike, *self.candidates)
            if each.protection is not None and each.spi_r == header.spi_r
        ]

    def lost(self, now: float, why: str) -> None:
        """A candidate was not the peer, or not as it must be: that proves nothing, so that others are
        waited for, and asked for a few times more."""
        self._why = why
        self.unproved(now, EventKind.REFUSED, f"an answer that proves nothing: {why}")
        left = [each for each in self.candidates if each.state == State.CONNECTING]
        for each in left:
            self.context.boundary.step(partial(each._go_on, now))
        if not left:
            self.request_in_vain(TRIES_IN_VAIN)
            self.go_on_repeating(now)

    def _won(self, root: "IkeSa", now: float) -> None:
        """A candidate is the peer: it takes the place of its root, and nothing else is left of that."""
        self.root = None
        root.candidates.remove(self.ike)
        self.context.ikes[self.spi] = self.ike
        self.created, self.on_gone = root.created, root.on_gone
        root.dissolve(now)

    def dissolve(self, now: float) -> None:
        """Ends without a word: what it stood for is elsewhere, or was nobody."""
        if self.state != State.GONE:
            self.state = State.GONE
            self._leave(now)
