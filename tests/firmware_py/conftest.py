# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Live peers, once a module; a user-mode Linux, once a process."""

import pytest

from tests.firmware_py.ike.hosts import KERNEL, Uml, Wire, need
from tests.firmware_py.ike.strongswan import STRONGSWAN, KernelCharon


@pytest.fixture(scope="module")
def wire():
    """A namespace for strongSwan, on a wire to this one."""
    need(*STRONGSWAN)
    with Wire() as made:
        yield made


@pytest.fixture(scope="session")
def uml(tmp_path_factory):
    """A user-mode Linux, on a wire to this namespace."""
    need(*KERNEL)
    made = Uml()
    try:
        made.boot(tmp_path_factory.mktemp("uml"))
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def kernel(uml, tmp_path_factory):
    """strongSwan in a user-mode Linux: the machine, its folder, its charon."""
    need(*STRONGSWAN)
    folder = tmp_path_factory.mktemp("charon")
    charon = KernelCharon(uml, folder)
    charon.start()
    yield uml, folder, charon
    charon.close()
