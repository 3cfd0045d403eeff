"""examples/, as whoever copies them has them: from an installed wheel, in a folder of their own."""

import re
import shutil

import pytest

from tests.install.environments import TOP

pytestmark = pytest.mark.xdist_group("install")
EXAMPLES = TOP / "examples"
DECRYPTED = "4500001c292940003e11ff910a01000a0a02000a9c4b0fa000083fdc"
"""What Linux sent on of the packet in question: tests/data/captures/esp-tunnel-gcm128/server-out.pcap."""


@pytest.fixture
def folder(request, tmp_path):
    """A copy of the example that the test is named for."""
    name = request.node.name.split("_")[1]
    return shutil.copytree(EXAMPLES / name, tmp_path / name)


def commands(name: str) -> list[list[str]]:
    """The commands of an example's README."""
    text = (EXAMPLES / name / "README.md").read_text()
    return [line.partition("  #")[0].split() for line in re.findall(r"^    (\S.*)$", text, re.M)]


def run(environment, folder, words):
    shown = environment.run(*words, folder=folder)
    assert shown.returncode == 0, shown.stdout + shown.stderr
    return shown.stdout


def test_every_example_is_run_here():
    assert sorted(path.name for path in EXAMPLES.iterdir() if path.is_dir()) == ["capture", "core", "script"]
    listed = re.findall(r"^\| \[(\w+)\]\((\w+)\)", (EXAMPLES / "README.md").read_text(), re.M)
    assert sorted(listed) == [(name, name) for name in ("capture", "core", "script")]


def test_script(bare, full, folder):
    model, simulated = commands("script")
    printed = [run(bare, folder, model), run(full, folder, simulated)]
    for text in printed:
        first, *counters = text.splitlines()
        assert first == f"decrypted: {DECRYPTED}"
        assert {"packets_in: 1", "decrypted: 1", "packets_out: 1"} <= set(counters)
    code = (EXAMPLES / "script/decrypt.py").read_text()
    assert len(code[code.index("with spigate.open") :].splitlines()) <= 20


def test_capture(bare, full, folder):
    play_soft, compare_soft, play, compare = commands("capture")
    run(bare, folder, play_soft)
    assert run(bare, folder, compare_soft) == "server: 17 of 17 packets\n"
    run(full, folder, play)
    assert run(full, folder, compare) == "server: 17 of 17 packets\n"


def test_core(full, folder):
    export, test = commands("core")
    run(full, folder, export)
    assert "PASS=1 FAIL=0" in run(full, folder, test)
    # It is no decoration: with another key nothing leaves. The model is compiled already.
    code = (folder / "test_core.py").read_text()
    (folder / "test_core.py").write_text(code.replace("key=SECRET[:16]", "key=SECRET[4:]"))
    shown = full.run(*test, folder=folder)
    assert shown.returncode != 0 and "FAIL=1" in shown.stdout
