"""What needs a simulator or another program that this machine lacks is skipped and says what to install; it
fails where SPIGATE_PEERS_REQUIRED is 1.
"""

import os

import pytest

from spigate.firmware_py.errors import ToolMissing

REQUIRED = "SPIGATE_PEERS_REQUIRED"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item):
    return (yield from skipped())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    return (yield from skipped())


def skipped():
    """Around what may raise ToolMissing."""
    try:
        return (yield)
    except ToolMissing as error:
        if os.environ.get(REQUIRED) == "1":
            raise
        pytest.skip(str(error))
