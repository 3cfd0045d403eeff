# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""What stands around the code is about the code: CONTRIBUTING's recipes, the workflow, the tiers."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()
WORKFLOW = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DUMMY = """    dummy_walk = 6'd55 { name = "punt rest"; desc = "Of a test."; };\n"""


def recipe(title: str) -> str:
    """The text of one of CONTRIBUTING's recipes."""
    return CONTRIBUTING.split(f"### {title}\n")[1].split("\n### ")[0]


def commands(job: str) -> list[str]:
    """What the workflow runs in a job."""
    return [step["run"] for step in WORKFLOW["jobs"][job]["steps"] if "run" in step]


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "SECURITY.md"])
def test_files_and_tests_that_a_page_names_are_there(page):
    quoted = re.findall(r"`([^`\n]+)`", (ROOT / page).read_text())
    files = {text for text in quoted if re.fullmatch(r"[\w.-]+(/[\w.-]+)+/?", text)}
    assert [text for text in sorted(files) if not (ROOT / text).exists()] == ["build/"] * ("build/" in files)
    sources = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    tests = {text for text in quoted if re.fullmatch(r"test_\w+", text)}
    assert [text for text in sorted(tests) if f"def {text}(" not in sources] == []


def test_contributing_has_each_recipe():
    assert re.findall(r"^### A new (.+)", CONTRIBUTING, re.MULTILINE) == [
        "punt reason",
        "table",
        "cipher engine",
        "IKE payload",
        "FPGA family",
        "board",
    ]


def test_the_tiers_are_those_of_the_makefile():
    tiers = re.findall(r"^\| `make (\w+)`", CONTRIBUTING, re.MULTILINE)
    assert tiers == ["check", "test", "prove", "fuzz", "bench", "synth"]
    assert [tier for tier in tiers if not re.search(rf"^{tier}:", MAKEFILE, re.MULTILINE)] == []


def test_make_test_says_first_how_long_it_takes():
    shown = subprocess.run(
        ["make", "--dry-run", "test"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    minutes = re.search(r"^\| `make test` .* (\d+) min \|$", CONTRIBUTING, re.MULTILINE)[1]
    said, ran = shown.stdout.find(f"about {minutes} minutes"), shown.stdout.find("pytest")
    assert 0 <= said < ran


@pytest.mark.slow
def test_each_step_of_a_new_punt_reason_is_asked_for(tmp_path):
    """A dummy in a copy of the sources: what fails there is what the recipe names."""
    for folder in ("hdl", "firmware_py", "spigate", "tests/hdl/contract"):
        shutil.copytree(
            ROOT / folder, tmp_path / folder, symlinks=True, ignore=shutil.ignore_patterns("__pycache__")
        )
    for name in ("pyproject.toml", "tests/__init__.py", "tests/hdl/__init__.py"):
        shutil.copy(ROOT / name, tmp_path / name)

    def python(*arguments: str) -> str:
        command = [sys.executable, "-m", *arguments]
        environment = {"PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1", "PATH": "/usr/bin:/bin"}
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True).stdout

    def failed() -> set[str]:
        shown = python("pytest", "-q", "-p", "no:cacheprovider", "-o", "addopts=-rf", "tests/hdl/contract")
        return set(re.findall(r"^FAILED \S+::(\w+)", shown, re.MULTILINE))

    assert failed() == set()
    rdl = tmp_path / "hdl/contract/entries.rdl"
    told = "    // Told, nothing dropped\n"
    rdl.write_text(rdl.read_text().replace(told, DUMMY + told))
    assert failed() == {"test_enumerations_are_those_of_the_rdl"}
    python("spigate.hdl.contract.generate")
    missing = failed()
    assert missing == {
        "test_the_gateware_gives_each_reason_but_one_of_softwares",
        "test_the_model_gives_each_reason_of_a_punt",
        "test_the_control_element_has_an_answer_for_each_punt",
    }
    named = set(re.findall(r"`(test_\w+)`", recipe("A new punt reason")))
    assert missing | {"test_enumerations_are_those_of_the_rdl"} <= named


def test_the_workflow_runs_what_a_change_must_pass():
    assert ".ci/run" in commands("whole") and WORKFLOW["jobs"]["whole"]["container"]["image"] == "debian:12"
    assert commands("quick") == ["make check PYTHON=python"]


def test_the_workflow_tries_each_python_that_the_project_names():
    tried = WORKFLOW["jobs"]["quick"]["strategy"]["matrix"]["python"]
    prefix = "Programming Language :: Python :: "
    named = [each.removeprefix(prefix) for each in PROJECT["classifiers"] if each.startswith(prefix)]
    assert tried == named
    assert PROJECT["requires-python"] == f">={tried[0]}"


def test_ci_runs_lint_proofs_demo_and_tests_in_this_order():
    lines = (ROOT / ".ci/run").read_text().splitlines()
    assert [line for line in lines if line.startswith("make ")] == [
        "make lint",
        "make prove",
        "make demo",
        "make test",
    ]


def test_the_readme_says_what_its_words_mean_where_it_uses_them_first():
    paragraphs = (ROOT / "README.md").read_text().split("\n\n")
    words = {
        "CFE": "(**CFE**, classifying forwarding element)",
        "DFE": "(**DFE**, decrypting forwarding elements)",
        "CE": "control element in Python (**CE**)",
        "punted": "does not know is *punted* to the control element",
    }
    for word, meaning in words.items():
        first = next(each for each in paragraphs if re.search(rf"\b{word}\b", each))
        assert meaning in " ".join(first.split()), word


def test_the_readme_says_what_works_and_what_is_missing():
    readme = (ROOT / "README.md").read_text()
    rows = re.findall(r"^\| \*\*(\w+).*?\*\* \|", readme, re.M)
    assert rows == ["Works", "Works", "Synthesised", "On", "Missing"]
    assert readme.index("**Why this?**") < readme.index("**Missing**") < readme.index("## Two commands")
