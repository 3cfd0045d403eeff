# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Places in a table of the gateway: who has which, and who goes first when all are taken."""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from spigate.firmware_py.errors import TableFull


@dataclass
class _Place:
    index: int
    since: float


Key = TypeVar("Key", bound=Hashable)


class Places(Generic[Key]):
    """The places of one table, the least recently used first.

    What is asked for by many and has room for few must not go round: whoever came last would always push
    out whoever is next. So an entry stays for a while, and who finds no place meanwhile has to go the slow
    way.

    Parameters
    ----------
    name : str
        Of the table, for :class:`~spigate.firmware_py.errors.TableFull`.
    size : int
    clock : callable
        Seconds.
    stay : float
        Seconds for which nobody's place is taken away.

    Members
    -------
    size : int
    """

    def __init__(self, name: str, size: int, clock: Callable[[], float], *, stay: float = 0.0):
        self._name, self.size, self._clock, self._stay = name, size, clock, stay
        self._free = list(range(size))[::-1]
        self._taken: OrderedDict[Key, _Place] = OrderedDict()

    def __len__(self) -> int:
        return len(self._taken)

    def __contains__(self, key: Key) -> bool:
        return key in self._taken

    def __iter__(self) -> Iterator[Key]:
        return iter(list(self._taken))

    def find(self, key: Key) -> int | None:
        """The place of ``key``, which counts as a use; None where it has none."""
        if key not in self._taken:
            return None
        self._taken.move_to_end(key)
        return self._taken[key].index

    def index(self, key: Key) -> int:
        """The place of ``key``, which must have one."""
        return self._taken[key].index

    def take(self, key: Key, may_go: Callable[[Key], bool] = lambda key: True) -> tuple[int, Key | None]:
        """A place for ``key``, which has none, and whoever had it until now.

        Parameters
        ----------
        may_go : callable
            Whether the place of that key may be taken away, if it has had it for long enough.

        Raises
        ------
        TableFull
            Nobody may go.
        """
        loser = None
        if not self._free:
            now = self._clock()
            loser = next(
                (
                    other
                    for other, place in self._taken.items()
                    if now - place.since >= self._stay and may_go(other)
                ),
                None,
            )
            if loser is None:
                raise TableFull(f"The {self._name} are full: {self.size} entries")
            self.release(loser)
        index = self._free.pop()
        self._taken[key] = _Place(index, self._clock())
        return index, loser

    def release(self, key: Key) -> int | None:
        """Gives the place of ``key`` back, and says which that was; None where it has none."""
        place = self._taken.pop(key, None)
        if place is None:
            return None
        self._free.append(place.index)
        return place.index

    def rename(self, old: Key, new: Key) -> None:
        """The place of ``old`` is that of ``new`` from now on, which has none."""
        self._taken = OrderedDict((new if key == old else key, place) for key, place in self._taken.items())
