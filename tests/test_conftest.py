"""What a missing tool does to a test."""

import pytest

from spigate.firmware_py.errors import ToolMissing
from tests.conftest import REQUIRED, skipped


@pytest.mark.parametrize(
    "required, outcome", [("1", ToolMissing), ("0", pytest.skip.Exception), (None, pytest.skip.Exception)]
)
def test_absence_is_a_failure_where_peers_are_required(monkeypatch, required, outcome):
    monkeypatch.delenv(REQUIRED, raising=False)
    if required is not None:
        monkeypatch.setenv(REQUIRED, required)
    around = skipped()
    next(around)
    with pytest.raises(outcome, match="lacks strongswan-charon"):
        around.throw(ToolMissing("this machine lacks strongswan-charon"))
