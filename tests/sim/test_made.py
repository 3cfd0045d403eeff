# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""What the whole gateway makes itself: errors to who sent something, and headers."""

import pytest

from spigate.sim.design import Configuration

BENCH = "tests.sim.bench_made"
MODEL = Configuration(beat_bytes=8, dfes=1, lanes=1)
pytestmark = [pytest.mark.xdist_group("replay-small"), pytest.mark.slow]


def test_who_sent_what_has_lived_too_long_hears_so():
    MODEL.model().run(BENCH, testcase="late")


def test_sas_between_the_same_two_addresses_share_no_identification():
    MODEL.model().run(BENCH, testcase="identifications")
