# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Message IDs and retransmission (RFC 7296 2.1 to 2.3): a window of one request in each direction."""

from enum import Enum, auto

from spigate.firmware_py.ike.peers.retransmission import Retransmission


class GivenUp(Exception):
    """A request was repeated as often as it may be, and never answered."""


class RequestWindow:
    """The side that asks: one request at a time, kept until it is answered.

    Members
    -------
    next_id : int
        Message ID of the next request.
    deadline : float or None
        When :meth:`repeat` is due.
    """

    def __init__(self, retransmission: Retransmission):
        self._retransmission = retransmission
        self._datagrams: tuple[bytes, ...] = ()
        self._repetitions = 0
        self._left = 0
        self.next_id = 0
        self.deadline: float | None = None

    @property
    def busy(self) -> bool:
        """A request is on its way."""
        return self.deadline is not None

    def send(self, now: float, datagrams: tuple[bytes, ...]) -> tuple[bytes, ...]:
        """Keeps ``datagrams``, a request with :attr:`next_id`, whole or in fragments; returns them."""
        self._datagrams, self._repetitions, self._left = datagrams, 0, self._retransmission.tries
        self.deadline = now + self._retransmission.wait(0)
        return datagrams

    def expects(self, message_id: int) -> bool:
        """Whether a response with ``message_id`` is the one that is waited for."""
        return self.busy and message_id == self.next_id

    def answered(self) -> None:
        """The response came: the request is forgotten and the next one has the next ID."""
        self._datagrams, self.deadline = (), None
        self.next_id += 1

    def again(self) -> None:
        """The request is forgotten, and the next one has the same ID: IKE_SA_INIT that was sent back."""
        self._datagrams, self.deadline = (), None

    def shorten(self, tries: int) -> None:
        """Repeats at most ``tries`` times more, because an answer that proves nothing said that it is in
        vain.
        """
        self._left = min(self._left, tries)

    def resume(self, now: float) -> None:
        """The request is repeated again, from ``now`` on, after it was not for a while."""
        self.deadline = now + self._retransmission.wait(self._repetitions)

    def repeat(self, now: float) -> tuple[bytes, ...]:
        """What to send again at ``now``, the :attr:`deadline`.

        Raises
        ------
        GivenUp
            No more repetitions.
        """
        if self._left == 0:
            raise GivenUp
        self._left -= 1
        self._repetitions += 1
        self.deadline = now + self._retransmission.wait(self._repetitions)
        return self._datagrams


class Arrival(Enum):
    """What a request's message ID says."""

    NEW = auto()
    REPEATED = auto()
    OUTSIDE = auto()


class ResponseWindow:
    """The side that answers: each request once, and a repeated one with the response it had.

    Members
    -------
    expected : int
        Message ID of the next new request.
    response : tuple of bytes
        To the last request.
    """

    def __init__(self) -> None:
        self.expected = 0
        self.response: tuple[bytes, ...] = ()

    def arrival(self, message_id: int) -> Arrival:
        if message_id == self.expected:
            return Arrival.NEW
        return Arrival.REPEATED if message_id == self.expected - 1 else Arrival.OUTSIDE

    def answer(self, response: tuple[bytes, ...]) -> tuple[bytes, ...]:
        """Keeps the ``response`` to the request :attr:`expected`; returns it."""
        self.response = response
        self.expected += 1
        return response
