"""libreswan's pluto in a user-mode Linux, above that kernel's ESP and AH.

Debian's package conflicts with strongSwan's, so that it is not installed: it lies unpacked in a folder, build/libreswan or
what SPIGATE_LIBRESWAN names. Its libraries and libnss3-tools are installed.
"""
import os
from pathlib import Path

UNPACKED = Path(os.environ.get("SPIGATE_LIBRESWAN", Path(__file__).parents[3] / "build/libreswan"))
LIBRESWAN = ((UNPACKED / "usr/libexec/ipsec/pluto", f"libreswan, unpacked in {UNPACKED} as .ci/run does it"),
             (Path("/usr/bin/certutil"), "libnss3-tools"), (Path("/usr/lib/x86_64-linux-gnu/libldns.so.3"), "libldns3"))
PROGRAMS = Path("/usr/libexec")
"""Where the package's programs look for each other; in the user-mode Linux, the package's are there."""
