"""The validation scripts run, in small."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from zwicky.simulate.pressure import PressureModel

FOLDER = Path(__file__).parents[1] / "validation"


def script(name):
    """A validation script as a module."""
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("closure", ["viscous", "inviscid"])
def test_gas_stays_in_equilibrium_with_the_viscous_closure_alone(closure):
    """Two dynamical times of 20000 particles: within 12% (the start is within 5%) from 0.2 to 1.5 R500c, or not."""
    sphere = script("sphere").Sphere(replace(PressureModel(), closure=closure, support=1.0), particles=20000)
    times = []
    sphere.run(2, times.append)
    density, speed = sphere.shells()
    assert times == [1, 2]
    if closure == "viscous":
        np.testing.assert_allclose(density[1:6], 1, atol=0.12)
        assert speed[:5].max() < 0.15
    else:
        assert density[1:3].min() > 1.4
