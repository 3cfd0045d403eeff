# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Blocks refuse sizes that they cannot have when they are made, not in the midst of a conversion."""

import pytest

from spigate.hdl.cfe.cfe import Cfe
from spigate.hdl.csr.control import ControlPlane
from spigate.hdl.dfe.commit import Commit
from spigate.hdl.dfe.dfe import Dfe
from spigate.hdl.dfe.sequence import SequenceNumbers
from spigate.hdl.forward import Forwarding
from spigate.hdl.gateway import Gateway

TABLES = {"sa_entries": 256, "sources": 16, "cam_entries": 1024, "rules": 32, "routes": 64}
RIGHT = {
    Gateway: {},
    Cfe: {"beat_bytes": 8, "dfes": 2},
    Dfe: {"beat_bytes": 8, "lanes": 1},
    Commit: {"beat_bytes": 8, "lanes": 1, "sa_entries": 256},
    SequenceNumbers: {"entries": 256},
    Forwarding: {"beat_bytes": 8, "sources": 3},
    ControlPlane: {"beat_bytes": 8, "dfes": 2, "reporters": 4, "lanes": 1, **TABLES},
}


@pytest.mark.filterwarnings("ignore::amaranth.UnusedElaboratable")
@pytest.mark.parametrize(
    ("block", "wrong", "message"),
    [
        (Gateway, {"cam_entries": 1500}, "cam_entries must be 1024, 2048, 4096 or 8192, not 1500"),
        (Gateway, {"beat_bytes": 4}, "beat_bytes must be 8 or 16, not 4"),
        (Gateway, {"rules": 34}, "rules must be 32 to 64, a multiple of 4, not 34"),
        (Cfe, {"dfes": 9}, "dfes must be 1 to 8, not 9"),
        (Cfe, {"cam_entries": 10_000}, "entries must be 64 to 8192, not 10000"),
        (Cfe, {"rules": 33}, "rules must be a multiple of 4, 4 to 64, not 33"),
        (Cfe, {"routes": 257}, "routes must be 2 to 256, not 257"),
        (Cfe, {"beat_bytes": 4}, "beat_bytes must be one of .8, 16., not 4"),
        (Dfe, {"lanes": 9}, "lanes must be 1 to 8, not 9"),
        (Dfe, {"sa_entries": 100}, "sa_entries must be a power of two, 2 or more, not 100"),
        (Dfe, {"sources": 0}, "sources must be 1 or more, not 0"),
        (Dfe, {"dfes": 0}, "dfes must be 1 to 8, not 0"),
        (Commit, {"sa_entries": 3}, "sa_entries must be a power of two, 2 or more, not 3"),
        (SequenceNumbers, {"entries": 3}, "entries must be a power of two, 2 or more, not 3"),
        (Forwarding, {"sources": 0}, "sources must be 1 or more, not 0"),
        (ControlPlane, {"cam_entries": 1 << 14}, "entries must be 64 to 8192, not 16384"),
        (ControlPlane, {"clock_khz": 1 << 24}, "clock.khz must be 0 to 16777215, not 16777216"),
        (ControlPlane, {"sources": 1 << 12}, "dfe_tables.sources must be 0 to 4095, not 4096"),
        (ControlPlane, {"algorithms": ("rot13",)}, "algorithms must be of cipher_null, .*, not 'rot13'"),
    ],
)
def test_refuses_when_it_is_made(block, wrong, message):
    with pytest.raises(ValueError, match=message):
        block(**RIGHT[block] | wrong)


@pytest.mark.filterwarnings("ignore::amaranth.UnusedElaboratable")
@pytest.mark.parametrize("block", RIGHT)
def test_takes_what_is_right(block):
    block(**RIGHT[block])
