# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""docs/parameters.md says what the parameters are, and its tables come out of what was measured."""

import pytest

from spigate.boards import parameters
from spigate.boards.parameters import BASE, Row, Size
from spigate.hdl.contract.parameters import ENGINES, PARAMETERS

ONES = {name: Size(luts=100 + at, ffs=10, ebr=at % 3) for at, name in enumerate(parameters.parts())}


def test_the_page_has_the_ranges_and_engines_as_they_are():
    page = parameters.PAGE.read_text()
    made = parameters.filled(page, {"values": parameters.range_table(), "engines": parameters.engine_table()})
    assert made == page, "python -m spigate.boards.parameters"


def test_the_page_says_what_each_row_costs():
    page = parameters.PAGE.read_text()
    costs = page[page.index("<!-- costs -->") :]
    for row in parameters.table_rows():
        name = row.parameter if row.parameter == "all" else f"`{row.parameter}`"
        assert f"| {name} | {row.value} | " in costs, row
    for part in parameters.parts():
        assert f"\n| {part} | " in costs, part


def test_what_was_not_measured_is_left_out_and_said():
    lines = parameters.cost_table({name: size for name, size in ONES.items() if name != "rules 64"})
    assert "| `rules` |" not in lines and "| `routes` | 256 |" in lines
    assert parameters.cost_table({"DFE": Size(), "CFE": Size()}) == "Not measured: control, forwarding."


def test_each_parameter_that_costs_something_has_a_row_and_each_row_is_of_what_is_measured():
    rows = parameters.table_rows()
    assert {row.parameter for row in rows} == {"all", "engine", *PARAMETERS} - {"clock_khz"}
    assert {row.value for row in rows if row.parameter == "engine"} == set(ENGINES) - {"compact"}
    for row in rows:
        assert {name for _, name in row.changes} <= set(ONES), row
        if row.parameter in PARAMETERS:
            assert int(row.value) in PARAMETERS[row.parameter].allowed
            assert int(row.value) != BASE[row.parameter]


def test_every_part_can_be_made():
    for make in parameters.parts().values():
        make()


def test_a_row_is_the_sum_of_what_changes():
    sizes = ONES | {
        "CFE": Size(6000, 5000, 20),
        "DFE": Size(20_000, 15_000, 40),
        "forwarding": Size(800, 500, 8),
        "control": Size(2000, 2500, 0),
        "rules 32": Size(1000, 900, 1),
        "rules 64": Size(1500, 1000, 3),
    }
    assert parameters.core(sizes) == Size(48_800, 38_000, 108)
    lines = parameters.cost_table(sizes).splitlines()
    assert lines[2] == "| all | default | 48,800 | 38,000 | 108 | +0 | +0 | 85F |"
    assert "| `rules` | 64 | 49,300 | 38,100 | 110 | +500 | +2 | 85F |" in lines


@pytest.mark.parametrize(
    ("size", "names"),
    [
        (Size(21_800, 0, 56), "25F, 45F, 85F"),
        (Size(21_900, 0, 56), "45F, 85F"),
        (Size(1, 0, 57), "45F, 85F"),
        (Size(1, 0, 109), "85F"),
        (Size(80_000, 0, 0), "none"),
        (Size(1, 0, 209), "none"),
    ],
)
def test_what_fits_where(size, names):
    assert parameters.fits(size) == names


def test_a_page_without_a_mark_is_refused():
    with pytest.raises(ValueError, match="the page must have the marks of 'x' once, not 0 times"):
        parameters.filled("nothing", {"x": "a table"})


def test_rows_are_what_they_say():
    (row,) = (row for row in parameters.table_rows() if (row.parameter, row.value) == ("engine", "gcm-small"))
    assert row == Row(
        "engine",
        "gcm-small",
        ((2, "engine gcm-small"), (-2, "engine compact"), (2, "lane of 1"), (-2, "lane of 2")),
    )
