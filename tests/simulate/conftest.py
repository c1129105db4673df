"""Small simulations that several tests look at."""

from collections.abc import Callable
from typing import NamedTuple

import pytest

from zwicky.cosmology import Cosmology
from zwicky.simulate.integrate import State, Universe, advance
from zwicky.simulate.run import SimulationConfig, first_state


class Run(NamedTuple):
    """A configuration and its first and last states."""

    config: SimulationConfig
    universe: Universe
    first: State
    last: State


def evolve(config):
    """From the first scale factor to the last."""
    universe = config.universe()
    first, state = (first_state(config, universe) for _ in range(2))
    while state.a < 1 / (1 + config.redshift_end):
        advance(universe, state, config.steps.next(universe, state, 1 / (1 + config.redshift_end)))
    return Run(config, universe, first, state)


@pytest.fixture(scope="session")
def run_of() -> Callable[[SimulationConfig], Run]:
    """The function that makes a run of a configuration."""
    return evolve


@pytest.fixture(scope="session")
def linear_run():
    """2 x 32^3 particles in 450 Mpc/h from z = 49 to 0, with sigma8 = 0.2: linear to the end."""
    fixed = {"seed": 3, "fixed_amplitude": True, "cosmology": Cosmology(sigma8=0.2)}
    return evolve(SimulationConfig(n=32, box=450.0, da=0.04, dlna=0.1, eta=100.0, **fixed))


@pytest.fixture(scope="session")
def small_config():
    """2 x 16^3 particles in 16 Mpc/h from z = 49 to 0 with few steps: makes a small cluster, with hot gas."""
    return SimulationConfig(n=16, box=16.0, seed=2, da=0.05, dlna=0.15, eta=100.0, softening=1 / 10)


@pytest.fixture(scope="session")
def small_run(small_config):
    """The run of `small_config`."""
    return evolve(small_config)
