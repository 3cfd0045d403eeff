# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""What a peer's message can be wrong in. Each error knows the notify that answers it.

Nothing else leaves the modules below the state machine, whatever bytes they are given.
"""

from spigate.firmware_py.errors import SpigateError
from spigate.firmware_py.ike.wire.registry import NotifyType


class PeerError(SpigateError):
    """What a peer sent is not what it must be.

    Members
    -------
    notify : NotifyType or None
        What to answer; None: silence.
    data : bytes
        The notify's data.
    """

    notify: NotifyType | None = None
    data: bytes = b""


class InvalidSyntax(PeerError):
    """A length, count or field that the RFC does not allow."""

    notify = NotifyType.INVALID_SYNTAX


class InvalidMajorVersion(PeerError):
    """The header is another IKE's, such as IKEv1's."""

    notify = NotifyType.INVALID_MAJOR_VERSION


class UnsupportedCriticalPayload(PeerError):
    """A payload that must be understood and is not."""

    notify = NotifyType.UNSUPPORTED_CRITICAL_PAYLOAD

    def __init__(self, payload_type: int):
        super().__init__(f"critical payload of unknown type {payload_type}")
        self.payload_type = payload_type
        self.data = bytes([payload_type])


class NotAuthentic(PeerError):
    """A protected message that no holder of the keys sent, or not whole. To be dropped without a word."""


class NoProposalChosen(PeerError):
    """No proposal of the peer's is acceptable, or its choice was never offered."""

    notify = NotifyType.NO_PROPOSAL_CHOSEN


class InvalidKePayload(PeerError):
    """The KE payload is of another method than the one chosen. ``group``: the one to come again with."""

    notify = NotifyType.INVALID_KE_PAYLOAD

    def __init__(self, group: int):
        super().__init__(f"key exchange with another method than {group}, which was chosen")
        self.group = group
        self.data = group.to_bytes(2, "big")


class TsUnacceptable(PeerError):
    """No traffic that both sides want to protect."""

    notify = NotifyType.TS_UNACCEPTABLE


class AuthenticationFailed(PeerError):
    """The peer is not shown to be who it says. The message says why, for the log; the answer does not."""

    notify = NotifyType.AUTHENTICATION_FAILED
