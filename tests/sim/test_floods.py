"""A short part of tests/sim/floods.py."""
import pytest

from spigate.sim.gateway import Configuration
from tests.sim.floods import faults, measure

SHORT = {"probes": 8, "lead": 2000, "settle": 20_000}
SMALL = Configuration(beat_bytes=8, dfes=1, lanes=1)


@pytest.mark.xdist_group("replay-small")
def test_floods_cost_ike_nothing():
    """One DFE at 8 bytes a beat: every kind at the network port."""
    assert not faults(measure(SMALL, **SHORT, ports=["network"]))


@pytest.mark.xdist_group("replay-large")
def test_floods_cost_other_dfes_nothing():
    """What a DFE has to do with, at both ports."""
    assert not faults(measure(**SHORT, kinds=["forged, of an SA", "forged and long", "SA absent", "no rule", "unknown SPI"]))
