"""What needs a simulator or another program that this machine lacks is skipped and says what to install; it fails where
SPIGATE_PEERS_REQUIRED is 1.
"""
import os

import pytest

from spigate.firmware_py.errors import ToolMissing
from tests.firmware_py.ike.hosts import REQUIRED


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item):
    return (yield from _skipped())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    return (yield from _skipped())


def _skipped():
    try:
        return (yield)
    except ToolMissing as error:
        if os.environ.get(REQUIRED) == "1":
            raise
        pytest.skip(str(error))
