# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The claims, a module for each part of the gateway that they are about."""

from tests.formal.claims import cam, cfe, dfe, forward, keys, net, replay, vlans
from tests.formal.proof import PROOFS

__all__ = ["PROOFS", "cam", "cfe", "dfe", "forward", "keys", "net", "replay", "vlans"]
