# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The states of an IKE SA."""

from enum import Enum, auto


class State(Enum):
    """CONNECTING: until both sides are shown to be who they say. REKEYED: another has taken its children,
    and it waits for its deletion. DELETING: this side asked for that."""

    CONNECTING = auto()
    ESTABLISHED = auto()
    REKEYED = auto()
    DELETING = auto()
    GONE = auto()
