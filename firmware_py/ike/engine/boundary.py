# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""One boundary around each datagram, timer and command: what nobody expected ends one IKE SA, and nothing
else.
"""

from collections.abc import Callable
from pathlib import PurePath
from traceback import walk_tb
from typing import TYPE_CHECKING, TypeVar

from spigate.firmware_py.errors import InputError

if TYPE_CHECKING:
    from spigate.firmware_py.ike.engine.ike_sa import IkeSa

FRAMES = 4
_T = TypeVar("_T")
Owner = Callable[[], "IkeSa | None"]
"""Whose IKE SA something is for, when it is asked."""


class Boundary:
    """Parameters
    ----------
    tell : callable
        Called with the IKE SA, or None, and what went wrong where: types and lines of code, nothing of a
        peer's and nothing secret.

    Members
    -------
    now : float
        When the engine was called last.
    born : list of IkeSa
        Made since then: they go too, because nobody can say how far they came.
    """

    def __init__(self, tell: Callable[["IkeSa | None", str], None]):
        self._tell = tell
        self.now = 0.0
        self.born: list[IkeSa] = []

    def run(
        self, now: float, call: Callable[[], _T], owner: Owner = lambda: None, *, command: bool = False
    ) -> _T | None:
        """``call()``; where it raises, the IKE SA of ``owner`` ends. None: it raised.

        Raises
        ------
        InputError
            Only of a ``command``: what an operator asks for cannot be.
        """
        self.now, self.born = now, []
        try:
            return call()
        except Exception as error:  # noqa: BLE001 whatever it is
            if command and isinstance(error, InputError):
                raise
            ike = owner()
            self.tell(ike, error)
            for each in (*self.born, *([ike] if ike is not None else ())):
                each.fail(now)
            return None

    def step(self, call: Callable[[], object]) -> None:
        """One step of an end that goes on whatever happens."""
        try:
            call()
        except Exception as error:  # noqa: BLE001 whatever it is
            self.tell(None, error)

    def tell(self, ike: "IkeSa | None", error: Exception) -> None:
        """Something went wrong that nobody expected."""
        self._tell(ike, where(error))


def where(error: BaseException) -> str:
    """The type of ``error`` and the innermost places, without its message: that may quote what a peer sent,
    or a key.
    """
    places = [
        f"{PurePath(frame.f_code.co_filename).name}:{line}" for frame, line in walk_tb(error.__traceback__)
    ]
    return f"{type(error).__name__} at {', from '.join(reversed(places[-FRAMES:]))}"
