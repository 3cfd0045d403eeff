# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

import pytest

from tests.install.environments import Environment, add_everything, add_runtime, build_wheel, install


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    """The built wheel."""
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session")
def bare(wheel, tmp_path_factory) -> Environment:
    """It, with what it needs and no extra."""
    made = install(wheel, tmp_path_factory.mktemp("bare"))
    add_runtime(made)
    return made


@pytest.fixture(scope="session")
def full(wheel, tmp_path_factory) -> Environment:
    """It, with all extras."""
    made = install(wheel, tmp_path_factory.mktemp("full"))
    add_everything(made)
    return made
