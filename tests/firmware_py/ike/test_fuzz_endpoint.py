# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Mutated messages to endpoints at work, of peers that have the keys and of strangers; ``make fuzz`` takes
a million of each.
"""

import pytest

from tests.firmware_py import fuzzing
from tests.firmware_py.ike import fuzz_endpoint, fuzz_strangers

COUNT = 25_000


@pytest.mark.slow
def test_peers_that_lie():
    counts = fuzzing.run(fuzz_endpoint.fuzz, COUNT)
    assert counts["mutated"] >= COUNT and counts["wrong"] > COUNT // 20
    for kind in (
        "ike-up",
        "child-rekeyed",
        "ike-rekeyed",
        "ike-down",
        "ike-failed",
        "child-failed",
        "refused",
    ):
        assert counts[kind] > 20, kind


@pytest.mark.slow
def test_strangers():
    counts = fuzzing.run(fuzz_strangers.fuzz, COUNT)
    assert counts["datagrams"] >= COUNT
    for kind in ("ike-up", "ike-failed", "refused", "child-rekeyed"):
        assert counts[kind] > COUNT // 5000, kind
