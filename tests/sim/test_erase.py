# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""What is erased is gone: in the whole gateway, after a reset and under traffic, and to the last register."""

import json

import pytest

from spigate.sim.design import Configuration

pytestmark = pytest.mark.slow

BENCH = "tests.sim.bench_erase"
MODELS = {
    "small": Configuration(beat_bytes=8, dfes=1, lanes=1),
    "large": Configuration(beat_bytes=16, dfes=2, lanes=2),
}
ON_THE_WIRE = (
    "ingress_network",
    "network_queue",
    "network_remove",
    "network_merge",
    "axis_network",
    "to_network",
    "from_network",
)
"""Parts that hold what could be seen at the network port."""
both = pytest.mark.parametrize(
    "size", [pytest.param(size, marks=pytest.mark.xdist_group(f"erase-{size}")) for size in MODELS]
)


@both
def test_a_reset_erases_all_tables(size):
    MODELS[size].model().run(BENCH, testcase="reset_erases")


@both
def test_limits_are_told_among_junk(size):
    MODELS[size].model().run(BENCH, testcase="limits_are_told_among_junk")


@both
@pytest.mark.parametrize("pause", [0, 200])
def test_erasing_harms_nobody(size, pause):
    MODELS[size].model().run(
        BENCH, testcase="erasing_harms_nobody", parameters={"seed": 1, "pause": pause, "turns": 8}
    )


def test_nothing_stays_of_an_sa_that_was_erased(tmp_path):
    """Two gateways that differ only in keys and plain text end in the same state (audit row 9)."""
    results = []
    for secret in (1, 2):
        file = tmp_path / f"{secret}.json"
        MODELS["small"].model(simulator="icarus").run(
            BENCH, testcase="leaves_what_it_leaves", parameters={"secret": secret, "result": str(file)}
        )
        results.append(json.loads(file.read_text()))
    one, other = results
    assert one["clocks"] == other["clocks"]
    before = {name for name, value in one["before"].items() if value != other["before"][name]}
    for part in ("sad.low", "keys.memory", "store_0.bank_0"):  # queues have overwritten what has left them
        assert any(part in name and name.endswith("]") for name in before), part
    after = {name for name, value in one["after"].items() if value != other["after"][name]}
    assert {name for name in after if not any(part in name for part in ON_THE_WIRE)} == set()
