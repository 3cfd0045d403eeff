# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Words for what is told to people."""

from collections.abc import Collection
from difflib import get_close_matches


def counted(count: int, one: str, several: str = "") -> str:
    """So many of something, in words: 1 peer, 2 peers."""
    return f"{count} {one if count == 1 else several or f'{one}s'}"


def nearest(word: str, known: Collection[str]) -> str:
    """The one of ``known`` that ``word`` is most like; nothing where it is like none."""
    folded = {each.lower().replace("-", "_"): each for each in known}
    found = get_close_matches(word.lower().replace("-", "_"), folded, n=1)
    return folded[found[0]] if found else ""
