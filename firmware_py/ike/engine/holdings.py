# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""What an exchange holds of what all share, and gives back by construction.

Nothing is reserved but through a :class:`Holdings`, and each has one owner at a time: an exchange while it
goes on, a child SA as long as it receives. Whoever owns one releases it on the one way on which it ends.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from spigate.firmware_py.ike.engine.context import Context

FIRST_SPI = 256
"""Below are reserved numbers (RFC 4303 2.1)."""


class Holdings:
    """SPIs to receive on, and what is to be undone when they are given back.

    As a context manager it releases at the end what was not moved elsewhere.

    Parameters
    ----------
    context : Context
        Counts those that hold something, in ``context.held``.
    """

    def __init__(self, context: "Context"):
        self._context = context
        self._spis: set[int] = set()
        self._undo: list[Callable[[], None]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.release()

    def child_spi(self) -> int:
        """An SPI to receive on, that nobody else gets until it is released."""
        while True:
            spi = int.from_bytes(self._context.random(4))
            if spi >= FIRST_SPI and spi not in self._context.reserved:
                self._context.reserved.add(spi)
                self._spis.add(spi)
                self._count()
                return spi

    def at_release(self, undo: Callable[[], None]) -> None:
        """``undo()`` is called when this is released."""
        self._undo.append(undo)
        self._count()

    def move(self) -> "Holdings":
        """All that this one holds, in another one; this one is empty then."""
        other = Holdings(self._context)
        other._spis, other._undo = self._spis, self._undo
        self._spis, self._undo = set(), []
        self._count()
        other._count()
        return other

    def take(self, spi: int) -> "Holdings":
        """``spi`` alone, out of this one and in another."""
        self._spis.remove(spi)
        other = Holdings(self._context)
        other._spis.add(spi)
        self._count()
        other._count()
        return other

    def release(self) -> None:
        """Gives everything back. May be called again."""
        spis, undo = self._spis, self._undo
        self._spis, self._undo = set(), []
        self._context.reserved -= spis
        self._count()
        for each in undo:
            self._context.boundary.step(each)

    def _count(self) -> None:
        (self._context.held.add if self._spis or self._undo else self._context.held.discard)(self)
