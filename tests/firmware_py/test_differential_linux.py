# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Every data plane beside a Linux kernel with the same policies, SAs and frames; ``make fuzz`` does more of
it.
"""

from collections import Counter

import pytest

from spigate.firmware_py.ipsec.anti_replay import ReplayWindow
from spigate.firmware_py.ipsec.decision import Spd
from tests.firmware_py import fuzzing
from tests.firmware_py.differential import Wrong
from tests.firmware_py.differential_linux import OURS, beside

pytestmark = [pytest.mark.xdist_group("linux"), pytest.mark.slow]
COUNT, ROUNDS = 3_600, 4


def test_every_data_plane_does_what_linux_does(uml, tmp_path):
    """A world in which no packet is protected is no fault: then there are more."""
    found, rounds = Counter(), 0
    seen = [f"{name}: same, {what}" for name in OURS for what in ("nothing", "clear", "protected", "host")]
    while not all(found[each] for each in seen) and rounds < ROUNDS:
        found += fuzzing.run(
            lambda count, seed, progress: beside(uml, tmp_path, count, seed, progress), COUNT
        )
        rounds += 1
    assert [each for each in seen if not found[each]] == []
    for name in OURS:
        compared = {what: times for what, times in found.items() if what.startswith(f"{name}: ")}
        meant = sum(times for what, times in compared.items() if ": same, " not in what)
        assert meant < sum(compared.values()) / 10, compared
    assert all(found[f"{name}: same, nothing"] < 0.9 * rounds * COUNT for name in OURS)
    assert all(
        sum(times for what, times in found.items() if what.startswith(f"{name}: ")) >= rounds * COUNT
        for name in ("gateware", "software")
    )


def permits_all(spd, flow, through):
    return True


def takes_all(window, number):
    return True


@pytest.mark.parametrize(
    ("where", "method", "instead"), [(Spd, "admits", permits_all), (ReplayWindow, "fresh", takes_all)]
)
def test_a_data_plane_that_permits_more_is_found(uml, tmp_path, monkeypatch, where, method, instead):
    monkeypatch.setattr(where, method, instead)
    with pytest.raises(Wrong, match="seed"):
        beside(uml, tmp_path, 900, 1)
