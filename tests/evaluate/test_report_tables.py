"""Tables: digits, brackets, the best in bold, dashes for what is unknown."""

import pytest

from zwicky.evaluate import tables
from zwicky.evaluate.html import Strong


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (0.12345, 0.0123, "0.123 ± 0.012"), (0.12345, 0.5, "0.12 ± 0.50"), (123.4, 21.0, "123 ± 21"),
        (0.5, None, "0.500"), (0.5, 0.0, "0.500"), (0.5, float("nan"), "0.500"), (None, 0.1, "-"),
        (float("nan"), None, "-"), (1.0, 1e-12, "1.000000 ± 0.000000"),
    ],
)  # fmt: skip
def test_numbers_have_two_digits_of_their_error(value, error, text):
    assert tables.number(value, error) == text


def test_a_difference_has_a_sign():
    assert tables.number(0.02, 0.01, sign=True) == "+0.020 ± 0.010"


def test_markdown_escapes_bars():
    assert tables.markdown(["a|b"], [[Strong("c")]]) == "| a\\|b |\n| --- |\n| **c** |\n"


def entry(value, maps=9):
    return {"value": value, "error": 0.01, "maps": maps}


def comparison(ideal, ours, other, third, maps=4):
    """`maps`: of the third."""
    models = {"ours": {"s": entry(ours)}, "other": {"s": entry(other)}, "third": {"s": entry(third, maps)}}
    others = {"other": other, "third": third}
    differences = {name: {"s": entry(None if v is None else v - ours)} for name, v in others.items()}
    return {"reference": "ours", "statistics": {"s": {"label": "label", "ideal": ideal}}, "models": models,
            "differences": differences}  # fmt: skip


@pytest.mark.parametrize(
    ("ideal", "values", "best"),
    [
        ("low", (0.3, 0.2, 0.4), {"other"}), ("high", (0.3, 0.2, 0.4), {"third"}), (0.0, (-0.1, -0.3, 0.2), {"ours"}),
        (0.683, (0.6, 0.7, 0.8), {"other"}), ("low", (0.2, None, 0.2), {"ours", "third"}),
        ("low", (0.2, None, None), set()), (None, (0.6, 0.7, 0.8), set()),
    ],
)  # fmt: skip
def test_the_best_is_nearest_to_the_ideal(ideal, values, best):
    assert bold(comparison(ideal, *values, maps=9)) == best


@pytest.mark.parametrize(
    ("ideal", "values", "best"),
    [
        ("low", (0.3, 0.2, 0.1), {"other"}), ("high", (0.3, 0.2, 0.4), {"ours"}), (0.0, (-0.1, -0.3, 0.0), {"ours"}),
        (0.683, (0.6, 0.7, 0.683), {"other"}), ("low", (0.2, 0.2, 0.1), {"ours", "other"}),
        ("low", (0.2, None, 0.1), set()),
    ],
)  # fmt: skip
def test_the_best_is_one_of_those_judged_on_all_maps(ideal, values, best):
    """Which the third was not."""
    assert bold(comparison(ideal, *values)) == best


def bold(comparison):
    """The models whose number is in bold."""
    header, rows = tables.comparison_rows(comparison)
    return {name for name, cell in zip(header[2:], rows[1][2:], strict=True) if isinstance(cell, Strong)}


def test_a_comparison_shows_differences_maps_and_gaps():
    header, rows = tables.comparison_rows(comparison("low", 0.3, 0.2, None))
    assert header == ["statistic", "ideal", "ours", "other", "third"]
    assert rows == [
        ["maps", "", "9", "9", "4"],
        ["label", "low", "0.300 ± 0.010", "0.200 ± 0.010 (-0.100 ± 0.010)", "-"],
    ]


def test_headlines_of_an_empty_bin_are_dashes():
    channels = {"gas": {"bins": {"all": {"n_maps": 0, "n_clusters": 0}}}}
    header, rows = tables.headline_rows(channels)
    assert header == ["measure", "ideal", "gas"]
    assert [row[2] for row in rows] == ["-"] * len(tables.HEADLINES)


def test_headlines_have_the_spread_of_single_maps():
    mass = {"map": {"error_median": 0.01, "error_median_error": 0.002, "error_plus": 0.03, "error_minus": 0.04,
                    "coverage": 0.6, "coverage_error": 0.05, "coverage_target": 0.67}}  # fmt: skip
    _, rows = tables.headline_rows({"gas": {"bins": {"all": {"mass": mass}}}})
    found = {row[0]: row[1:] for row in rows}
    assert found["mass of the map, median error"] == ["0", "0.0100 ± 0.0020 (+0.0300, -0.0400)"]
    assert found["masses of the map inside 1 sigma"] == ["0.670", "0.600 ± 0.050"]
