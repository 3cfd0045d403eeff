# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""What a missing program does to a test, and the quick tier.

What needs a simulator or another program that this machine lacks is skipped and says what to install; it
fails where SPIGATE_PEERS_REQUIRED is 1.

``pytest --quick`` leaves out what is marked ``slow``. A test in it may take :data:`QUICK_SECONDS` of CPU time,
children's included, with nothing in the cache of models; one that takes longer fails.

A test's id has no long text in it: a packet there hides the test's name, and a new key would give the test
another id in each of the workers, which then agree on no order.
"""

import os
import signal

import pytest

from spigate.firmware_py.errors import ToolMissing

REQUIRED = "SPIGATE_PEERS_REQUIRED"
QUICK_SECONDS = 10
"""What a test may take in it."""
LONGEST_ID = 60
"""Characters of a parameter in a test's id, as Python writes it; what is longer goes by its name."""
_BEGUN = pytest.StashKey[float]()


def pytest_addoption(parser):
    parser.addoption(
        "--quick",
        action="store_true",
        help=f"the quick tier: none marked slow, {QUICK_SECONDS} s of CPU each",
    )


def pytest_configure(config):
    # Who was started in the background by a shell without job control ignores SIGINT, and so would the programs
    # whose Ctrl-C is tested.
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(config, items):
    if config.getoption("quick"):
        slow = [item for item in items if item.get_closest_marker("slow")]
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if not item.get_closest_marker("slow")]


def pytest_make_parametrize_id(config, val, argname):
    return argname if isinstance(val, str | bytes) and len(repr(val)) > LONGEST_ID else None


def cpu_seconds() -> float:
    """CPU time of this process and of its children that have ended."""
    return sum(os.times()[:4])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item):
    item.stash[_BEGUN] = cpu_seconds()
    return (yield from skipped())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    yield from skipped()
    if item.config.getoption("quick"):
        hold_quick(cpu_seconds() - item.stash[_BEGUN])


def hold_quick(seconds: float) -> None:
    """Fails a test of the quick tier that took that much CPU time."""
    if seconds > QUICK_SECONDS:
        pytest.fail(
            f"It took {seconds:.1f} s of CPU time, and the quick tier gives {QUICK_SECONDS} s to a test: "
            "mark it with pytest.mark.slow",
            pytrace=False,
        )


def skipped():
    """Around what may raise ToolMissing."""
    try:
        return (yield)
    except ToolMissing as error:
        if os.environ.get(REQUIRED) == "1":
            raise
        pytest.skip(str(error))
