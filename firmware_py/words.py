# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Words for what is told to people."""


def counted(count: int, one: str, several: str = "") -> str:
    """So many of something, in words: 1 peer, 2 peers."""
    return f"{count} {one if count == 1 else several or f'{one}s'}"
