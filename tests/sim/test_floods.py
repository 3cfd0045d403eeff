# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""A short part of tests/sim/floods.py."""

import pytest

from spigate.sim.design import Configuration
from tests.sim.floods import faults, measure

pytestmark = pytest.mark.slow

SHORT = {"probes": 9, "lead": 2000, "settle": 20_000}
SMALL, LARGE = Configuration(beat_bytes=8, dfes=1, lanes=1), Configuration(beat_bytes=16, dfes=2, lanes=2)


@pytest.mark.xdist_group("replay-small")
def test_floods_cost_ike_nothing():
    """Every kind, as fast as the gateway takes it, at the server port."""
    assert not faults(measure(SMALL, **SHORT, line=0, ports=["server"]))


@pytest.mark.xdist_group("replay-small")
def test_floods_of_punts_cost_an_sa_nothing():
    """At line rate: packets of an SA take as long as ever."""
    assert not faults(
        measure(
            SMALL,
            **SHORT,
            ports=["network", "server"],
            kinds=["unknown SPI", "no rule", "IPv6", "not IP", "fragments", "NAT-T"],
        )
    )


@pytest.mark.xdist_group("erase-large")
def test_floods_cost_other_dfes_nothing():
    """At line rate: what one DFE has to decrypt in vain is neither the other one's matter nor the server
    port's.
    """
    assert not faults(
        measure(LARGE, **SHORT, ports=["network"], kinds=["forged, of an SA", "forged and long"])
    )
