# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""This host's own addresses may change at any time."""

import asyncio
import subprocess
from contextlib import AsyncExitStack
from ipaddress import ip_address, ip_interface
from types import SimpleNamespace

import pytest

from spigate.firmware_py.daemon.dataplane import Hooks
from spigate.firmware_py.daemon.software import Software
from spigate.firmware_py.ike.peers.pad import Pad
from tests.firmware_py.ike.hosts import own_namespace

pytestmark = pytest.mark.xdist_group("host")
FIRST, THEN = ip_interface("10.2.0.1/24"), ip_interface("10.3.0.1/24")


@pytest.fixture
def namespace():
    with own_namespace("spigate-a") as name:
        yield name


def test_the_software_data_plane_learns_of_other_addresses(namespace):
    """What is decrypted for one that the host has no more would be let past outbound policy."""
    hooks = SimpleNamespace(**dict.fromkeys(Hooks.__dataclass_fields__, lambda *what: None))
    config = SimpleNamespace(
        pad=Pad(), starts={}, policies=(), mtu=1500, device="spigate", device_mtu=1400, addresses=(FIRST,)
    )

    async def run():
        plane = Software(config, lambda: 0.0)
        async with AsyncExitStack() as stack:
            await plane.open(stack, hooks)
            running = asyncio.create_task(plane.run())

            async def has(*addresses):
                for _ in range(100):
                    found = plane._plane._decisions._local
                    if found == set(map(ip_address, addresses)):
                        return
                    await asyncio.sleep(0.03)
                raise AssertionError(f"it knows {found}")

            await has("10.2.0.1")
            subprocess.run(["ip", "address", "add", str(THEN), "dev", "spigate"], check=True)
            await has("10.2.0.1", "10.3.0.1")
            subprocess.run(["ip", "address", "del", str(FIRST), "dev", "spigate"], check=True)
            await has("10.3.0.1")
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    asyncio.run(run())
