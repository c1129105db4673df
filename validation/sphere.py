"""Gas in hydrostatic equilibrium in the fixed potential of an NFW halo: does it stay where the pressure model puts it?

    python validation/sphere.py [--closure viscous] [--particles 30000] [--times 5]

The gas starts at rest with the density of the model (DPP pressure, thermal fraction) out to six R500c, its temperature
is looked up in the map T(rho, psi) at the matter density and psi of the halo. Prints gas density over the model's in
shells of r / R500c after each dynamical time (R500c^3 / G M500c)^(1/2), and the speed of the gas over the circular one.
"""

import argparse
from dataclasses import replace
from itertools import pairwise

import numpy as np
import torch
from scipy.integrate import cumulative_trapezoid

from zwicky.cosmology import Cosmology
from zwicky.grid import TWO32, from_fixed, sort_into_cells, to_fixed
from zwicky.simulate import sph
from zwicky.simulate.pressure import PressureModel, _halo_grid, hydrostatic, pressure_500, temperature_map
from zwicky.units import K_B, M_PROTON, MPC, MSUN, MU

EDGES = np.array([0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0])  # r / R500c
OUTER = 6.0  # R500c


class Sphere:
    """The halo, and gas that moves in it. Lengths in Mpc, masses in Msun, H0 = 1."""

    def __init__(self, model, m200c=4e14, particles=30000, softening=0.04):
        c = Cosmology()
        halos = _halo_grid(c, 1.0)
        halo = {k: v[np.argmin(np.abs(halos["m200c"][:, 0] - m200c))] for k, v in halos.items()}
        self.r_s, self.rho_s = (float(halo[k][0]) for k in ("r_s", "rho_s"))
        self.r500 = float(halo["r500c"][0]) / MPC
        self.model, self.map = model, temperature_map(replace(model, matter="nfw"), c, 1.0)
        r = np.geomspace(1e-3, OUTER, 4000) * self.r500
        p500 = pressure_500(halo["m500c"], 1.0, c.h)
        scales = (np.array(v) for v in (self.r500 * MPC, p500[0], self.rho_s, self.r_s))
        self.profile = lambda x, s=tuple(scales): hydrostatic(model, x * MPC, *s)
        rho = self.profile(r)["rho_gas"] / MSUN * MPC**3
        shells = 4 * np.pi * r**2 * rho
        mass = 4 / 3 * np.pi * r[0] ** 3 * rho[0] + cumulative_trapezoid(shells, r, initial=0)
        self.radius_of_mass = lambda m: np.interp(m, mass, r)
        self.mass_inside = lambda x: np.interp(x, r, mass)
        self.box = 2.5 * OUTER * self.r500
        lattice = _lattice_in_unit_sphere(particles)
        self.mass = mass[-1] / len(lattice)
        distance = np.linalg.norm(lattice, axis=1)
        x = lattice / distance[:, None] * self.radius_of_mass(mass[-1] * distance**3)[:, None]
        self.fixed = torch.from_numpy(to_fixed(x + self.box / 2, self.box))
        self.v = torch.zeros(len(x), 3)
        self.newton = 1.5 * c.omega_m / (4 * np.pi * c.rho_mean)
        self.hubble0, self.h_lowest, self.h_highest = c.hubble0, 2 * softening, 1.2
        self.cells_n = int(self.box / 1.21)
        self.h = torch.full((len(x),), 0.5)
        self.limiter = torch.ones(len(x))
        for _ in range(8):
            self.update_density()
        self.dynamical_time = (self.r500**3 / (self.newton * float(halo["m500c"][0]))) ** 0.5

    def radii(self):
        """Offsets from the centre (P, 3) and their lengths [Mpc]."""
        d = torch.from_numpy(from_fixed(self.fixed.numpy(), self.box) - self.box / 2)
        return d, d.norm(dim=1)

    def update_density(self):
        """SPH density with relaxed support radii."""
        cells = sort_into_cells(self.fixed, self.cells_n)
        ones = torch.ones_like(self.h)
        rho = sph.density(cells, ones * self.mass, self.h[cells.order], ones.bool(), self.box)
        self.rho = cells.restore(rho)
        self.h = sph.next_support_radius(self.h, self.rho, self.mass, self.h_lowest, self.h_highest)
        return cells

    def acceleration(self):
        """Gravity of the halo and the pressure of the gas."""
        cells, (d, r) = self.update_density(), self.radii()
        state = self.profile(np.maximum(r.numpy(), 1e-3))
        rho, psi = (torch.from_numpy(state[k]) for k in ("rho", "psi"))
        temperature, drive = self.map(rho, psi)
        specific = self.model.temperature * temperature * (K_B / (MU * M_PROTON) * 1e-10 / self.hubble0**2) * drive
        self.sound = specific.float().sqrt()
        alpha = self.limiter * (self.model.viscosity if self.model.closure == "viscous" else 0.0)
        o = cells.order
        push, limiter = sph.pressure_acceleration(
            cells, self.v[o].T, self.mass, specific.float()[o], self.rho[o], self.h[o], self.box, 0.0, alpha[o]
        )
        if self.model.balsara:
            self.limiter = cells.restore(limiter)
        x = r * MPC / self.r_s
        inside = 4 * np.pi * self.rho_s * self.r_s**3 / MSUN * (torch.log1p(x) - x / (1 + x))
        pull = -self.newton * inside / r.clamp_min(1e-3) ** 3
        return cells.restore(push) + (pull[:, None] * d).float()

    def run(self, times, report):
        """Kick-drift-kick, calling report(t) at every dynamical time."""
        t, force = 0.0, self.acceleration()
        for k in range(1, times + 1):
            while t < k * self.dynamical_time:
                dt = min(0.3 * float((self.h / self.sound).kthvalue(len(self.h) // 1000 + 1).values),
                         k * self.dynamical_time - t + 1e-9)  # fmt: skip
                self.v += force * (dt / 2)
                self.fixed += torch.round(self.v * (dt * TWO32 / self.box)).int()
                force = self.acceleration()
                self.v += force * (dt / 2)
                t += dt
            report(k)

    def shells(self):
        """Gas density over that of the model, from counted mass, and rms speed over the circular speed, per shell."""
        _, r = self.radii()
        s = r.numpy() / self.r500
        index = np.digitize(s, EDGES) - 1
        model = np.diff(self.mass_inside(EDGES * self.r500))
        speed = self.v.norm(dim=1).numpy() * np.sqrt(r.numpy())
        found = np.array([(index == i).sum() * self.mass for i in range(len(EDGES) - 1)])
        x = r.numpy() * MPC / self.r_s
        circular = np.sqrt(self.newton * 4 * np.pi * self.rho_s * self.r_s**3 / MSUN * (np.log1p(x) - x / (1 + x)))
        rms = [np.sqrt(np.mean((speed / circular)[index == i] ** 2)) for i in range(len(EDGES) - 1)]
        return found / model, np.array(rms)


def _lattice_in_unit_sphere(count):
    """About `count` sites of a cubic lattice in the unit sphere, no site at the centre."""
    n = int(np.ceil((count * 6 / np.pi) ** (1 / 3)))
    x = (np.indices((n, n, n)).reshape(3, -1).T + 0.5) * (2 / n) - 1 + 1e-3
    return x[np.linalg.norm(x, axis=1) < 1]


def main():
    """Run and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--closure", default="viscous")
    parser.add_argument("--viscosity", type=float, default=1.0)
    parser.add_argument("--support", type=float, default=1.0, help="there is no motion that could take part of it")
    parser.add_argument("--no-balsara", action="store_true")
    parser.add_argument("--particles", type=int, default=30000)
    parser.add_argument("--times", type=int, default=5)
    o = parser.parse_args()
    settings = {"closure": o.closure, "viscosity": o.viscosity, "balsara": not o.no_balsara}
    settings |= {"support": o.support, "support_slope": 0.0, "temperature": 1.0}  # what makes up for motion and scatter
    model = replace(PressureModel(), **settings)
    sphere = Sphere(model, particles=o.particles)
    inside = int((sphere.radii()[1] < sphere.r500).sum())
    print(f"{len(sphere.h)} particles, {inside} inside R500c = {sphere.r500:.2f} Mpc")
    print("r/R500c ", *(f"{np.sqrt(a * b):6.2f}" for a, b in pairwise(EDGES)))

    def report(k):
        density, speed = sphere.shells()
        print(f"t = {k}   ", *(f"{x:6.3f}" for x in density), "  v/v_c", *(f"{x:5.2f}" for x in speed), flush=True)

    report(0)
    sphere.run(o.times, report)


if __name__ == "__main__":
    main()
