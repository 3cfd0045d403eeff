"""Live peers, once a module."""
import pytest

from tests.firmware_py.ike.strongswan import KERNEL, KernelCharon, Uml, Wire, need


@pytest.fixture(scope="module")
def wire():
    """A namespace for strongSwan, on a wire to this one."""
    need()
    with Wire() as made:
        yield made


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    """strongSwan above a user-mode Linux: the machine, its folder, its charon."""
    need(*KERNEL)
    folder = tmp_path_factory.mktemp("uml")
    with Uml() as uml:
        charon = KernelCharon(uml, folder)
        charon.start()
        yield uml, folder, charon
        charon.close()
