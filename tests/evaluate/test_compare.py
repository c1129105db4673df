"""Comparisons: paired, on the maps that both have, and exact where the answer is known."""

import numpy as np
import pytest

from zwicky.evaluate.compare import STATISTICS, compare
from zwicky.evaluate.rows import MapGrid, map_rows

GRID = MapGrid(32, 200.0, 0.7)


@pytest.fixture(scope="module")
def rows(clusters):
    """Rows of an honest posterior, of one that is 10% too heavy, and of one map in place of samples."""
    truth, samples, _ = clusters
    radii = np.full(len(truth), 700.0), np.full(len(truth), 1500.0)

    def of(x):
        return dict(enumerate(map_rows(truth, x, GRID, *radii, np.random.default_rng(0))))

    return {"honest": of(samples), "heavy": of(1.1 * samples), "single": of(samples[:, :1])}


def run(rows, **options):
    clusters = {i: i // 2 for i in range(12)}
    return compare(rows, clusters, GRID.k, np.random.default_rng(0), n_bootstrap=50, **options)


def test_a_model_does_not_differ_from_itself(rows):
    found = run({"a": rows["honest"], "b": rows["honest"]})["differences"]["b"]
    assert set(found) == set(STATISTICS)
    assert all(entry["value"] == 0 and entry["error"] == 0 for entry in found.values())


def test_a_known_bias_is_found_with_a_paired_error(rows):
    found = run({"a": rows["honest"], "b": rows["heavy"]})
    difference = found["differences"]["b"]["mass_median"]
    alone = found["models"]["b"]["mass_median"]
    assert difference["value"] == pytest.approx(0.1, abs=0.005)
    assert difference["error"] < 0.3 * alone["error"]
    assert found["differences"]["b"]["r_mean_small"]["value"] == pytest.approx(0, abs=1e-12)
    assert found["differences"]["b"]["b_sample_weighted_small"]["value"] == pytest.approx(
        0.1 * found["models"]["a"]["b_sample_weighted_small"]["value"], rel=1e-6
    )


def test_only_shared_maps_are_compared(rows):
    some = {i: rows["heavy"][i] for i in (1, 4, 7)}
    found = run({"a": rows["honest"], "b": some})
    assert found["models"]["a"]["profile_error"]["maps"] == 12
    assert found["differences"]["b"]["profile_error"]["maps"] == 3


def test_a_single_map_has_no_calibration(rows):
    found = run({"a": rows["honest"], "b": rows["single"]})
    assert found["models"]["b"]["coverage_mass"]["value"] is None
    assert found["differences"]["b"]["b_sample_weighted_large"]["value"] is None
    assert found["models"]["b"]["r_mean_large"]["value"] < found["models"]["a"]["r_mean_large"]["value"]
