"""docs/operating.md: its commands, in order, as they stand there."""
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.firmware_py.ike.hosts import need
from tests.firmware_py.ike.strongswan import STRONGSWAN

pytestmark = pytest.mark.xdist_group("host")
GUIDE = Path(__file__).parents[3] / "docs/operating.md"


def test_every_command_of_the_guide_works(tmp_path):
    need(*STRONGSWAN, (Path(shutil.which("ping") or "/usr/bin/ping"), "iputils-ping"))
    script = "\n".join(re.findall(r"```sh\n(.*?)```", GUIDE.read_text(), re.S))
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    try:
        done = subprocess.run(["bash", "-euxc", script], cwd=tmp_path, capture_output=True, text=True, timeout=120,
                              env={**os.environ, "PATH": path, "COLUMNS": "200"})
        assert done.returncode == 0, done.stdout + done.stderr
    finally:
        for name in ("left", "right"):
            listed = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True, check=False)
            for process in listed.stdout.split():
                subprocess.run(["kill", "-9", process], check=False)
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
    assert done.stdout.count("3 received") == 2 and 'spigate_ike_sas{state="established"} 1' in done.stdout
    assert "child-rekeyed" in (tmp_path / "tunnel/spigate.log").read_text()
