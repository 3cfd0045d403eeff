# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""What happened in a live gateway, and how long nothing has."""

from collections import Counter


class Tally:
    """Members
    -------
    counts, dropped : Counter of str
        What happened, and what was lost outside the gateway.
    quiet : int
        Looks since something last went in or out.
    """

    def __init__(self, quiet: int = 0):
        self.counts: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()
        self.quiet = quiet

    def count(self, what: str) -> None:
        """A frame has gone in or out."""
        self.counts[what] += 1
        self.stir()

    def stir(self) -> None:
        """Something has gone in or out."""
        self.quiet = 0
