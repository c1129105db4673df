"""Physical constants and the few unit conversions of Zwicky.

Inside the package arrays are plain floats in these units, unless a docstring says otherwise:

    length       Mpc (comoving in the simulator, proper in maps)   mass         Msun (no factors of h)
    velocity     km/s (peculiar)                                   temperature  K
    map pixel    kpc (proper)                                      surface density  Msun / kpc^2

astropy units appear at the public edge only. Values are CGS from CODATA 2018 and IAU 2015 as tabulated by astropy.
"""

from __future__ import annotations

from astropy import constants as const
from astropy import units as u

G_CGS: float = const.G.cgs.value  # [cm^3 g^-1 s^-2]
C_CGS: float = const.c.cgs.value  # [cm s^-1]
H_PLANCK: float = const.h.cgs.value  # [erg s]
K_B: float = const.k_B.cgs.value  # [erg K^-1]
M_PROTON: float = const.m_p.cgs.value  # [g]
M_ELECTRON: float = const.m_e.cgs.value  # [g]
SIGMA_T: float = const.sigma_T.cgs.value  # [cm^2]
MSUN: float = const.M_sun.cgs.value  # [g]
MPC: float = u.Mpc.to(u.cm)  # [cm]
KPC: float = u.kpc.to(u.cm)  # [cm]
KEV: float = u.keV.to(u.erg)  # [erg]
T_CMB: float = 2.7255  # [K], Fixsen 2009
KEV_IN_K: float = KEV / K_B  # temperature of kT = 1 keV [K]
GYR_KM_S_MPC: float = (u.Mpc / (u.km / u.s)).to(u.Gyr)  # of 1 / H where H = 1 km/s/Mpc [Gyr]
G_MPC: float = G_CGS * MSUN / MPC * 1e-10  # [Mpc Msun^-1 (km/s)^2]

X_HYDROGEN: float = 0.76  # primordial hydrogen mass fraction used throughout
Z_SOLAR: float = 0.0127  # mass fraction of metals in the Sun; Wiersma et al. 2009, arXiv:0807.3748, table 1


def mean_molecular_weight(x_hydrogen: float = X_HYDROGEN) -> float:
    """Mean mass per particle mu of fully ionised H + He, in proton masses: mu = 4 / (3 + 5 X)."""
    return 4.0 / (3.0 + 5.0 * x_hydrogen)


def mean_molecular_weight_per_electron(x_hydrogen: float = X_HYDROGEN) -> float:
    """Mean mass per electron mu_e of fully ionised H + He, in proton masses: mu_e = 2 / (1 + X)."""
    return 2.0 / (1.0 + x_hydrogen)


MU: float = mean_molecular_weight()
MU_E: float = mean_molecular_weight_per_electron()
