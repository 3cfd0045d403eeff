# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""How a peer is waited for (RFC 7296 2.4)."""

from dataclasses import dataclass

from spigate.firmware_py.errors import InputError


@dataclass(frozen=True)
class Retransmission:
    """How often and how long a request is sent again.

    Members
    -------
    timeout : float
        Seconds until the first repetition.
    factor : float
        Each wait is so many times the one before.
    tries : int
        Repetitions; the peer is given up one wait after the last.
    """

    timeout: float = 2.0
    factor: float = 1.8
    tries: int = 5

    def __post_init__(self) -> None:
        for name, low in (("timeout", 0.01), ("factor", 1.0), ("tries", 0)):
            if not low <= getattr(self, name) <= 1000:
                raise InputError(f"retransmission {name} must be {low} to 1000, not {getattr(self, name)!r}")

    def wait(self, repetition: int) -> float:
        """Seconds to wait after having sent for the ``repetition``-th time again."""
        return self.timeout * self.factor**repetition
