"""The judge judged: the exact posterior passes, three faults are noticed, and a broken measure would be."""

import numpy as np
import pytest

from zwicky.evaluate import selfcheck
from zwicky.evaluate.selfcheck import FAULTS, LIMIT, Check, require_sound, self_check
from zwicky.io import UserError


@pytest.fixture(scope="module")
def found():
    return self_check(seed=0, maps=32, samples=30)


def test_the_exact_posterior_passes_and_each_fault_is_noticed(found):
    assert set(found) == set(FAULTS)
    require_sound(found)
    for fault in list(FAULTS)[1:]:
        assert sum(c.off > LIMIT for c in found[fault]) >= 2


def test_each_fault_is_noticed_by_the_measure_that_is_made_for_it(found):
    def off(fault, name):
        return next((c.value - c.ideal) / c.error for c in found[fault] if c.name == name)

    assert off("20% too wide", "coverage of pixels") > LIMIT
    assert off("20% too narrow", "coverage of pixels") < -LIMIT
    assert off("half a sigma off", "standardised error of pixels, mean") > LIMIT
    assert off("20% too wide", "b_sample_pooled, small scales") > LIMIT


def test_the_posterior_is_exact():
    """The mean has the error that the samples claim, and no correlation with it: E[(t - m) m] = 0."""
    truth, mean, deviation = selfcheck._exact(64, 20, np.random.default_rng(1))
    error, centred = truth - mean, mean - selfcheck.MEAN
    assert error.std() == pytest.approx(deviation.std(), rel=0.02)
    assert abs((error * centred).mean()) < 0.02 * error.std() * centred.std()
    assert truth.std() == pytest.approx(selfcheck.RMS, rel=0.1)
    assert truth.min() > 0


def test_unsound_measures_are_named():
    good, bad = Check("a", 1.0, 1.0, 0.1), Check("b", 2.0, 1.0, 0.1)
    require_sound({"none": [good], "20% too wide": [good, bad]})
    with pytest.raises(UserError, match=r"b of an exact posterior is 2, 10\.0 standard errors from 1"):
        require_sound({"none": [good, bad], "20% too wide": [bad]})
    with pytest.raises(UserError, match="do not notice a posterior that is 20% too wide"):
        require_sound({"none": [good], "20% too wide": [good]})
    with pytest.raises(UserError, match="not sound"):
        require_sound({"none": [Check("c", np.nan, 1.0, 0.1)]})


def test_a_verdict_needs_enough_maps():
    with pytest.raises(ValueError, match="at least 16 maps and 10 samples"):
        self_check(maps=3)
