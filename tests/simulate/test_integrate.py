"""Time integration: linear growth, the Zel'dovich pancake, conservation, and what the closures change."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from zwicky.cosmology import Cosmology
from zwicky.grid import TWO32, density_contrast, from_fixed, rfft, to_fixed, wavenumbers
from zwicky.simulate import integrate
from zwicky.simulate.initial import initial_conditions
from zwicky.simulate.integrate import (
    Steps,
    _specific_pressure,
    _update_temperature,
    advance,
    begin,
    final_gas,
    is_hot,
)
from zwicky.simulate.pressure import PressureModel
from zwicky.simulate.run import SimulationConfig, _log_line, first_state
from zwicky.units import K_B, M_PROTON, MU

COLD = PressureModel(reionization=0.0)


def positions(run, state):
    """Of dark matter and of gas [Mpc, comoving]."""
    return np.split(from_fixed(state.fixed.numpy(), run.universe.box), 2)


@pytest.mark.parametrize(
    ("start", "end", "dlna", "da"),
    [(0.02, 1.0, 0.05, 0.01), (0.02, 1.0, 0.1, 0.04), (0.02, 0.05, 0.05, 0.01), (0.5, 1.0, 0.1, 0.003),
     (0.1, 0.4, 0.2, 0.1)],
)
def test_steps_end_exactly_and_keep_to_both_limits(small_run, start, end, dlna, da):
    """Without a limit from free fall."""
    steps, a = Steps(dlna, da, 1e9), [start]
    while a[-1] < end:
        a.append(steps.next(small_run.universe, replace(small_run.last, a=a[-1]), end))
    assert a[-1] == end
    assert np.diff(np.log(a)).max() <= dlna * (1 + 1e-9)
    assert np.diff(a).max() <= da * (1 + dlna)
    change = min(max(da / dlna, start), end)
    assert len(a) - 1 <= np.log(change / start) / dlna + max(0, end - change) / da + 5


def test_steps_follow_the_free_fall_of_the_fastest(small_run):
    """Proper softening a eps and acceleration g / a^2, H0 = 1: dt = (2 eta a eps a^2 / g)^(1/2)."""
    universe, state = small_run.universe, replace(small_run.last, a=0.5)
    pull = np.quantile(state.gravity.norm(dim=1), 0.999)
    dt = np.sqrt(2 * 0.1 * 0.5**3 * universe.solver.epsilon / pull)
    dlna = np.log(Steps(1.0, 1.0, 0.1).next(universe, state, 1.0) / 0.5)
    assert dlna == pytest.approx(float(universe.cosmology.E(0.5)) * dt, rel=0.02)
    assert Steps(1.0, 1.0, 0.025).next(universe, state, 1.0) == pytest.approx(0.5 * np.exp(dlna / 2), rel=0.02)


def low_modes(x, box, below, n=64):
    """Complex density modes of particles at 0 < |m| < below fundamental wavenumbers, without the deposit's window."""
    delta = rfft(torch.from_numpy(density_contrast(x, box, n))).numpy()
    kx, ky, kz = (np.asarray(k) * box / (2 * np.pi) for k in wavenumbers(n, box))
    size = np.sqrt(kx**2 + ky**2 + kz**2)
    window = (np.sinc(kx / n) * np.sinc(ky / n) * np.sinc(kz / n)) ** 4
    chosen = (size > 0) & (size < below)
    return (delta / window)[chosen]


@pytest.mark.parametrize(("below", "tolerance"), [(1.5, 0.015), (2.5, 0.03)])
def test_large_scales_grow_as_the_linear_growth(linear_run, below, tolerance):
    """Each mode against itself at the start; a lattice of particles grows more slowly near its Nyquist mode."""
    c, box = linear_run.config.cosmology, linear_run.universe.box
    states = (linear_run.first, linear_run.last)
    begun, ended = (low_modes(from_fixed(s.fixed.numpy(), box), box, below) for s in states)
    growth = np.real((ended * begun.conj()).sum()) / (np.abs(begun) ** 2).sum()
    assert growth**2 == pytest.approx(float(c.growth(1.0) / c.growth(0.02)) ** 2, rel=tolerance)


def test_gas_follows_dark_matter_on_large_scales(linear_run):
    """Power of the gas over that of the dark matter is 1 within 1%, and the phases agree."""
    box = linear_run.universe.box
    dark, gas = (low_modes(x, box, 2.5) for x in positions(linear_run, linear_run.last))
    assert (np.abs(gas) ** 2).sum() / (np.abs(dark) ** 2).sum() == pytest.approx(1, abs=0.01)
    correlation = np.real((gas * dark.conj()).sum()) / np.sqrt((np.abs(gas) ** 2).sum() * (np.abs(dark) ** 2).sum())
    assert correlation > 0.9999


def pancake(n, a_cross, a_start, a_end, steps, cosmology):
    """Displacement and momentum of a plane wave that collapses at a_cross, with its exact solution at a_end."""
    box = 32.0
    growth = cosmology.growth
    q = np.indices((n, n, n)).reshape(3, -1).T * (box / n)
    sites = np.concatenate([q, q + 0.5 * box / n])
    k = 2 * np.pi / box
    amplitude = float(growth(a_start) / growth(a_cross))
    x_lattice = np.indices((n, n, n))[0] * (box / n)
    modes = torch.fft.rfftn(torch.from_numpy(amplitude * np.cos(k * x_lattice)))
    config = SimulationConfig(n=n, box=box * cosmology.h, cosmology=cosmology, pressure=COLD)
    universe = config.universe()
    x, p = initial_conditions(cosmology, box, n, a_start, modes)
    state = begin(universe, a_start, torch.from_numpy(to_fixed(x, box)), torch.from_numpy(p).float())
    for a in np.geomspace(a_start, a_end, steps + 1)[1:]:
        advance(universe, state, float(a))
    move = from_fixed(state.fixed.numpy(), box) - sites
    move -= box * np.round(move / box)
    exact = -float(growth(a_end) / growth(a_cross)) / k * np.sin(k * sites[:, 0])
    speed = a_end**2 * float(cosmology.E(a_end) * cosmology.growth_rate(a_end)) * exact
    return move, state.momentum.numpy(), exact, speed


@pytest.mark.parametrize("cosmology", [Cosmology(), Cosmology(omega_m=1.0, omega_l=0.0, omega_b=0.15)])
def test_a_pancake_collapses_as_zeldovich_says(cosmology):
    """Exact until the crossing: displacement within 1% and momentum within 2% of their amplitude, at D = 0.63 of it."""
    move, momentum, exact, speed = pancake(24, 0.8, 0.05, 0.45, 30, cosmology)
    assert np.abs(move[:, 0] - exact).max() < 0.01 * np.abs(exact).max()
    assert np.abs(momentum[:, 0] - speed).max() < 0.02 * np.abs(speed).max()
    assert np.abs(move[:, 1:]).max() < 1e-5 * np.abs(exact).max()


def test_steps_converge_at_second_order():
    """Halving the step of the pancake divides the error of the step by four."""
    runs = [pancake(8, 0.8, 0.1, 0.5, steps, Cosmology())[0][:, 0] for steps in (4, 8, 16, 64)]
    errors = [np.sqrt(((r - runs[-1]) ** 2).mean()) for r in runs[:-1]]
    for coarse, fine in pairwise(errors):
        assert coarse / fine == pytest.approx(4, abs=1.2)


def test_energy_obeys_the_equation_of_layzer_and_irvine():
    """d[a (T + W)] = -T da without pressure, T and W of the log; from z = 19 to 0, within 1% of the change of a W."""
    config = SimulationConfig(n=16, box=50.0, seed=4, redshift_start=19.0, da=0.02, eta=0.2, pressure=COLD)
    universe = config.universe()
    state = first_state(config, universe)

    def energies():
        line = _log_line(universe, state, state.a / 2)  # so long ago that the potential is due
        return state.a, line["kinetic"], line["potential"]

    found = [energies()]
    while state.a < 1:
        advance(universe, state, config.steps.next(universe, state, 1.0))
        found.append(energies())
    a, kinetic, potential = np.array(found).T
    total = a * (kinetic + potential)
    change = total - total[0] + np.concatenate([[0], np.cumsum(np.diff(a) * (kinetic[1:] + kinetic[:-1]) / 2)])
    assert kinetic[-1] / -potential[-1] > 0.4  # well into collapse
    assert np.abs(change).max() < 0.01 * np.ptp(a * potential)


def masses_of(run):
    """Mass of every particle, dark matter first."""
    return np.repeat(run.universe.masses, run.first.n_gas)


def relative_momentum(run):
    """|sum m p| over the sum of the masses and the rms of p."""
    m, p = masses_of(run), run.last.momentum.double().numpy()
    return np.linalg.norm(m @ p) / (m.sum() * np.sqrt((m @ p**2).sum() / m.sum()))


def test_total_momentum_stays(small_run, linear_run):
    """With gravity, pressure and viscosity: below 1e-5 of the rms momentum times the mass."""
    assert relative_momentum(small_run) < 1e-5
    assert relative_momentum(linear_run) < 1e-5


def test_gas_has_a_temperature_after_reionization_only(small_run):
    universe, model = small_run.universe, small_run.universe.model
    assert not is_hot(universe, 1 / (1 + model.reionization))
    assert is_hot(universe, 1 / (1 + model.reionization) + 1e-6)
    assert (small_run.first.temperature == 0).all()
    assert (small_run.first.pressure == 0).all()
    overdensity = small_run.last.density.numpy() / universe.mean_gas_density
    void = overdensity < model.blend / 2
    igm = model.igm_t0 * overdensity[void] ** (model.igm_gamma - 1)
    np.testing.assert_allclose(small_run.last.temperature.numpy()[void], igm, rtol=1e-4)
    assert small_run.last.temperature.numpy()[overdensity > 2 * model.blend].mean() > 1e6


def test_closures_differ_only_where_the_gas_is_hot(small_run):
    """P / rho of the equation of motion: k T / (mu m_p) without viscosity, more of it with it."""
    viscous = small_run.universe
    inviscid = replace(viscous, model=replace(viscous.model, closure="inviscid"))
    states = [replace(small_run.last) for _ in range(2)]
    for universe, state in zip((viscous, inviscid), states, strict=True):
        _update_temperature(universe, state)
    np.testing.assert_array_equal(states[0].temperature, states[1].temperature)
    driven = states[0].drive > 1
    assert 0 < driven.sum() < len(driven)
    np.testing.assert_array_equal(states[0].drive[~driven], 1)
    np.testing.assert_array_equal(states[1].drive, 1)
    a, b = (_specific_pressure(viscous, state) for state in states)
    np.testing.assert_allclose(a / b, states[0].drive, rtol=1e-6)
    km_s = b.double().sqrt() * viscous.cosmology.hubble0
    np.testing.assert_allclose(km_s, (K_B * states[1].temperature.double() / (MU * M_PROTON)).sqrt() / 1e5, rtol=1e-5)


def test_halos_differ_where_the_model_scatters(small_config, run_of):
    """With a length beyond the box, all gas has one change of ln T, and hot gas is that much hotter."""
    model = PressureModel(scatter=(0.2, 0.0, 0.0), scatter_length=100.0)
    run = run_of(replace(small_config, pressure=model, redshift_end=1.0))
    change = run.last.traits[:, 0]
    assert float(change.std()) < 1e-3
    assert abs(float(change.mean())) > 0.01
    plain = replace(run.last, traits=run.last.traits[:, :0])
    scattered = replace(run.last)
    for state in (plain, scattered):
        _update_temperature(run.universe, state)
    overdensity = run.last.density / run.universe.mean_gas_density
    hot = (overdensity > 2 * model.blend) & (plain.temperature > 1e6)
    assert hot.any()
    np.testing.assert_allclose((scattered.temperature / plain.temperature)[hot], change[hot].exp(), rtol=1e-3)


def test_runs_of_both_closures_are_equal_before_reionization(small_config, run_of):
    """No pressure, no viscosity: the same to the bit at z = 9."""
    models = [PressureModel(closure=c) for c in ("viscous", "inviscid")]
    runs = [run_of(replace(small_config, redshift_end=9.0, pressure=model)) for model in models]
    np.testing.assert_array_equal(runs[0].last.fixed, runs[1].last.fixed)
    np.testing.assert_array_equal(runs[0].last.momentum, runs[1].last.momentum)


def test_pressure_keeps_gas_from_the_centre_of_halos(small_config, run_of):
    """Without viscosity, the densest hundredth of the gas is less dense with pressure than without."""
    models = (PressureModel(closure="inviscid"), replace(COLD, closure="inviscid"))
    runs = [run_of(replace(small_config, pressure=model)) for model in models]
    dense = [np.quantile(final_gas(r.universe, r.last, workers=1)[0].density, 0.99) for r in runs]
    assert dense[0] < 0.8 * dense[1]


def test_support_radii_of_a_snapshot_hold_the_number_of_neighbours(small_run):
    final, h_dark = final_gas(small_run.universe, small_run.last, workers=1)
    dark, gas = positions(small_run, small_run.last)
    lowest, box = 2 * small_run.universe.solver.epsilon, small_run.universe.box
    for x, h, floor in ((dark, h_dark, 0.0), (gas, final.h, lowest)):
        for i in range(0, len(x), 401):
            d = x - x[i]
            r = np.sort(np.linalg.norm(d - box * np.round(d / box), axis=1))
            assert float(h[i]) == pytest.approx(max(r[63], floor), rel=1e-5)


def test_density_of_a_snapshot_is_the_direct_sum(small_run):
    final, _ = final_gas(small_run.universe, small_run.last, workers=1)
    gas, box = positions(small_run, small_run.last)[1], small_run.universe.box
    for i in range(0, len(gas), 401):
        d = gas - gas[i]
        h = float(final.h[i])
        q = np.linalg.norm(d - box * np.round(d / box), axis=1) / h
        w = 21 / (2 * np.pi * h**3) * np.clip(1 - q, 0, None) ** 4 * (1 + 4 * q)
        assert float(final.density[i]) == pytest.approx(w.sum() * small_run.universe.masses[1], rel=1e-4)


def test_support_radii_found_before_are_taken(small_run, tmp_path):
    """Those of an interrupted snapshot wait in its folder, a file a species."""
    once, h_dark = final_gas(small_run.universe, small_run.last, tmp_path, workers=1)
    files = sorted(tmp_path.iterdir())
    assert [np.load(path).shape for path in files] == [h_dark.shape, once.h.shape]
    np.save(files[0], 2 * np.load(files[0]))
    again, twice = final_gas(small_run.universe, small_run.last, tmp_path, workers=1)
    assert torch.equal(twice, 2 * h_dark)
    assert torch.equal(again.temperature, once.temperature)


def test_temperatures_do_not_depend_on_parts_or_threads(monkeypatch):
    """34^3 particles are no whole number of vectors a thread; float32 powers of torch would differ at the ends."""
    universe, threads = SimulationConfig(n=34, box=20.0).universe(), torch.get_num_threads()
    rng = np.random.default_rng(0)
    fixed = torch.from_numpy(to_fixed(rng.normal(0, 0.1, (2 * 34**3, 3)), 1.0))
    found = []
    try:
        for count, part in ((1, integrate.PART), (2, integrate.PART), (1, 1000)):
            torch.set_num_threads(count)
            monkeypatch.setattr(integrate, "PART", part)
            found.append(begin(universe, 0.5, fixed, torch.zeros(2 * 34**3, 3)))
    finally:
        torch.set_num_threads(threads)
    dense = found[0].density / universe.mean_gas_density > universe.model.blend / 2
    assert 1000 < dense.sum() < len(dense)
    for state in found[1:]:
        assert torch.equal(state.temperature, found[0].temperature)
        assert torch.equal(state.drive, found[0].drive)


@pytest.mark.parametrize("mesh", [1, 3, 4])
def test_what_gas_is_does_not_depend_on_the_mesh_of_gravity(small_config, mesh):
    """Thin gas would be as hot as a halo if its support radii went with the cells of a finer mesh."""
    usual, other = (replace(small_config, softening=1 / 24, mesh=m).universe() for m in (2, mesh))
    assert other.gas_cells == usual.gas_cells
    assert other.h_limits == usual.h_limits


def test_matter_adds_up_to_the_mean_density():
    universe = SimulationConfig(n=8, box=10.0).universe()
    assert sum(universe.masses) * 8**3 / universe.box**3 == pytest.approx(universe.cosmology.rho_mean, rel=1e-12)
    assert universe.masses[1] / sum(universe.masses) == pytest.approx(0.15, rel=1e-12)
    assert TWO32 == 2.0**32
