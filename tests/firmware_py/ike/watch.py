# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""What must hold of an endpoint whatever it is sent: no surprises, work in proportion to what was sent, a
log that nobody fills, a deadline for every state, and nothing left at the end."""

import sys
from collections import Counter

from spigate.firmware_py.ike.engine.actions import Event, Socket
from spigate.firmware_py.ike.engine.state import State
from spigate.firmware_py.ike.engine.strangers import PER_PERIOD, PERIOD_SECONDS
from tests.firmware_py.ike.network import Host

SAMPLED = 50
"""One datagram of so many has its work counted: counting costs."""
CALLS, CALLS_PER_BYTE = 20_000, 10
"""Calls of functions that one datagram may cause, and besides for each of its bytes."""
KINDS_OF_STRANGERS = {"ike-failed", "refused", "under-load", "internal-error", "peer-moved"}
TEXT = 1100
"""Characters of an event."""


class Watched:
    """Stands around the endpoint of ``host``.

    Members
    -------
    calls : int
        The most that one datagram caused.
    """

    def __init__(self, host: Host):
        self.host, self.calls = host, 0
        self._received, self._seen = 0, 0
        self._receive = host.endpoint.receive
        host.endpoint.receive = self.receive

    def receive(self, now: float, data: bytes, local: Socket, remote: Socket) -> bool:
        self._received += 1
        if self._received % SAMPLED or sys.getprofile() is not None:
            return self._receive(now, data, local, remote)
        calls = 0

        def count(frame, event, argument) -> None:
            nonlocal calls
            calls += 1

        sys.setprofile(count)
        try:
            return self._receive(now, data, local, remote)
        finally:
            sys.setprofile(None)
            self.calls = max(self.calls, calls)
            assert calls < CALLS + CALLS_PER_BYTE * len(data), f"{calls} calls for {len(data)} bytes"

    def look(self) -> None:
        """Now and then."""
        new, self._seen = self.host.events[self._seen :], len(self.host.events)
        for event in new:
            self._event(event)
        self._states()

    def _event(self, event: Event) -> None:
        assert event.kind != "internal-error", event
        assert len(event.text) <= TEXT, event

    def _states(self) -> None:
        endpoint = self.host.endpoint
        for ike in [ike for each in endpoint.ikes for ike in (each, *each.candidates)]:
            due = [*ike._timers, *([ike._repeat] if ike.active is not None else [])]
            assert ike.state == State.ESTABLISHED or any(timer.active for timer in due), (
                f"{ike.state} without a deadline"
            )

    def ended(self) -> Counter:
        """All was ended, and time went by."""
        self.look()
        endpoint, plane = self.host.endpoint, self.host.plane
        left = {key: value for key, value in endpoint.census().items() if value}
        assert not left, left
        assert endpoint.next_timer is None
        assert not plane.inbound and not plane.outbound and not plane.policies
        return self.host.kinds()


def most_of_strangers(seconds: float) -> int:
    """Bytes that strangers may have logged in so many seconds."""
    return int((seconds / PERIOD_SECONDS + 1) * (PER_PERIOD + len(KINDS_OF_STRANGERS)) * TEXT)
