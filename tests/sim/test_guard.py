# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Provenance, through the whole gateway: the guard at the network port, and SAs that follow each other in
one place.
"""

import pytest

from spigate.sim.build import SimulationFailed
from spigate.sim.design import Configuration

BENCH = "tests.sim.bench_guard"
MODEL = Configuration(beat_bytes=8, dfes=1, lanes=1)
pytestmark = [pytest.mark.xdist_group("replay-small"), pytest.mark.slow]


def test_the_guard_stops_what_wrong_tables_would_let_out():
    MODEL.model().run(BENCH, testcase="guard")


def test_what_the_guard_stops_fails_a_simulation_that_does_not_expect_it():
    with pytest.raises(SimulationFailed, match="without a reason to leave was stopped at the network port"):
        MODEL.model().run(BENCH, testcase="guard_unexpected")


def test_no_packet_leaves_under_an_sa_that_took_the_place_of_its_own():
    MODEL.model().run(BENCH, testcase="race")
