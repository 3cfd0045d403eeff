# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The page of figures: it is what its results make, and mixes no two cores."""

import json
from pathlib import Path

import pytest

from spigate.boards import synth
from spigate.sim import bench, figures

DOCS = Path(__file__).parents[2] / "docs"
CORE = {"beat_bytes": 8, "dfes": 2, "lanes": 1}


def run(block=synth.WHOLE, seed=1, mhz=100.0):
    sizes = {"luts": 60_000, "ffs": 40_000, "ebr": 150, "dsp": 0}
    return {"block": block, "seed": seed, **sizes, "mhz": mhz, "seconds": 1}


@pytest.fixture
def results(tmp_path):
    """A function that writes results into a folder, and returns the folder."""

    def write(**files) -> Path:
        names = {name.replace("_", "-") + ".json": found for name, found in files.items()}
        for name, found in names.items():
            (tmp_path / name).write_text(json.dumps(found))
        measured = {name: {"commit": "abc1234", "day": "2026-11-29"} for name in names}
        (tmp_path / figures.MEASURED).write_text(json.dumps(measured))
        return tmp_path

    return write


def of(core=CORE, value=20.0, size=1400):
    return {"name": "2 DFEs", "value": value, "unit": "bits a clock", "core": core, "size": size}


def synthesis(*runs, core=CORE):
    return {"core": core, "target": {"device": "um5g-85k", "speed": 8, "mhz": 100}, "runs": list(runs)}


def test_the_page_is_what_its_results_make():
    assert (DOCS / "figures.md").read_text() == figures.page(DOCS / "figures")


def test_the_readme_says_the_same():
    text = (DOCS.parent / "README.md").read_text()
    shown = text.partition(figures.BEGIN)[2].partition(figures.END)[0]
    assert shown == figures.summary(DOCS / "figures") != ""


def test_each_result_says_where_it_is_from():
    measured = json.loads((DOCS / "figures" / figures.MEASURED).read_text())
    kept = {path.name for path in (DOCS / "figures").glob("*.json")} - {figures.MEASURED}
    assert set(measured) == kept <= set(figures.SOURCES)


def test_bits_become_gigabits_at_the_slowest_clock_of_the_same_core(results):
    folder = results(bench=[of()], synth=synthesis(run(mhz=110.0), run(seed=2, mhz=90.0)))
    page = figures.page(folder)
    # 20 bits a clock at 90 MHz are 1.8 Gbit/s; in packets of 11,200 bits 0.16 million a second.
    assert "| 2 DFEs | 20 | 1.80 | 0.16 |" in page and "90 MHz, the worst of 2 seeds" in page


@pytest.mark.parametrize("other", [{**CORE, "beat_bytes": 16}, {**CORE, "dfes": 1}, None])
def test_bits_of_another_core_are_not_converted(results, other):
    page = figures.page(results(bench=[of(other)], synth=synthesis(run())))
    assert "Gbit/s |" not in page
    assert "not converted by another core's clock" in page.replace("\n", " ")


def test_a_clock_of_nobody_knows_which_core_converts_nothing(results):
    found = synthesis(run())
    del found["core"]
    page = figures.page(results(bench=[of()], synth=found))
    assert "Gbit/s |" not in page and "does not say which core its clock is of" in page


def test_what_is_missing_is_said(results):
    page = figures.page(results())
    for name in ("synth.json", "bench.json", "bench-soft.json", "bench-ike.json", "prove.json"):
        assert figures.Results.missing(name) in page.replace("\n", " ")


def test_a_proof_that_fails_is_shown(results):
    proof = {"proof": "cam", "passed": False, "method": "9 clocks from reset"}
    proof["mutations"] = [{"caught": True}, {"caught": False}]
    assert "| `cam` | FAILS | 9 clocks from reset | 1 of 2 |" in figures.page(results(prove=[proof]))


def test_results_are_taken_over_once(tmp_path):
    build, folder = tmp_path / "build", tmp_path / "docs/figures"
    build.mkdir(), folder.mkdir(parents=True)
    (build / "prove.json").write_text("[]")
    assert figures.collect(build, folder, "1111111", "2026-11-28") == ["prove.json"]
    assert figures.collect(build, folder, "2222222", "2026-11-29") == []
    measured = json.loads((folder / figures.MEASURED).read_text())
    assert measured == {"prove.json": {"commit": "1111111", "day": "2026-11-28"}}


def test_the_bench_measures_the_core_that_synth_takes():
    """Otherwise nothing could ever be converted."""
    import argparse

    parser = argparse.ArgumentParser()
    synth.add_arguments(parser)
    default = parser.parse_args([])
    assert bench.core(bench.SYNTHESISED) == {name: getattr(default, name) for name in CORE}
