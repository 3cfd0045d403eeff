# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""A fresh Debian 12 in a folder, and commands in it, each in a mount namespace of its own.

It has this machine's ways to packages (Debian's and Python's), and nothing else of it.
"""

import os
import shutil
import subprocess
from pathlib import Path

from spigate.firmware_py.errors import ToolMissing
from tests.firmware_py.ike.hosts import need
from tests.terminal import on_terminal

SUITE = "bookworm"
DEBOOTSTRAP = Path("/usr/sbin/debootstrap")
WAYS = (
    "etc/resolv.conf",
    "etc/hosts",
    "etc/apt/apt.conf.d",
    "etc/apt/auth.conf.d",
    "etc/pip.conf",
    "etc/xdg/pip",
)
AUTHORITIES = "etc/ways.crt"
"""Not where Debian's own are: the package ca-certificates writes those anew."""
_ENTER = """
root=$1 command=$2
mount --bind "$root" "$root"  # ip netns wants / to be a mount point
mount --rbind /dev "$root/dev"
mount -t proc proc "$root/proc"
mount -t sysfs sys "$root/sys"
mount -t tmpfs run "$root/run"
mkdir -p "$root/run/netns"
exec chroot "$root" bash -euxc "$command"
"""


class Debian:
    """Parameters
    ----------
    root : Path
        A folder that is not there yet.

    Raises
    ------
    ToolMissing
        This machine cannot make it.
    """

    def __init__(self, root: Path):
        need((DEBOOTSTRAP, "debootstrap"))
        self.root = root
        sources = _sources()
        site = sources[0].split()[1]
        made = subprocess.run(
            [DEBOOTSTRAP, SUITE, root, site],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert made.returncode == 0, made.stdout[-4000:]
        (root / "etc/apt/sources.list").write_text("".join(f"{line}\n" for line in sources))
        for name in WAYS:
            here, there = Path("/", name), root / name
            if here.is_dir():
                shutil.copytree(here, there, dirs_exist_ok=True)
            elif here.exists():
                there.unlink(missing_ok=True)
                shutil.copy(here, there)
        shutil.copy(os.environ.get("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt"), root / AUTHORITIES)

    def run(self, command: str, *, network: bool = True, seconds: float = 900) -> str:
        """What bash prints at a terminal of 80 columns, in the folder of a user who has just logged in.

        ``network``: this machine's; otherwise it has none but what the command makes.
        """
        spaces = ["--mount", "--pid", "--fork", "--uts", *([] if network else ["--net"])]
        proxies = {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")}
        environment = {
            **proxies,
            "HOME": "/root",
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "DEBIAN_FRONTEND": "noninteractive",
            "PIP_CERT": f"/{AUTHORITIES}",
            "SSL_CERT_FILE": f"/{AUTHORITIES}",
        }
        if not network:
            command = f"ip link set lo up\n{command}"
        code, text = on_terminal(
            ["unshare", *spaces, "sh", "-euc", _ENTER, "sh", self.root, f"cd\n{command}"],
            folder=self.root,
            environment=environment,
            seconds=seconds,
        )
        assert code == 0, text
        return text


def _sources() -> list[str]:
    """This machine's for Debian 12, as lines of sources.list; its main archive is the first."""
    listed = subprocess.run(
        [
            "apt-get",
            "indextargets",
            "--format",
            "deb $(SITE) $(RELEASE) $(COMPONENT)",
            "Created-By: Packages",
        ],
        capture_output=True,
        text=True,
        check=False,
    ).stdout.splitlines()
    found = sorted(
        {line for line in listed if line.split()[2].startswith(SUITE)}, key=lambda line: line.split()[2]
    )
    if not found or found[0].split()[2] != SUITE:
        raise ToolMissing("a Debian 12 in a folder needs the package sources of Debian 12: apt update")
    return found
