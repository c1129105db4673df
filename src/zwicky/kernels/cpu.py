"""The kernels for CPUs, by numba on all cores.

    cpu_near      copies of what is near the particles of a cell
    cpu_gravity   sums over pairs by the short-range force        cpu_sph     the same by the kernel of SPH
    cpu_mesh      cell lists and meshes

Sums run in an order that does not depend on the number of threads, so that results repeat to the bit. numba keeps what
it compiled as long as the file of a loop is the same: who changes `cpu_near`, `pairs` or `split` touches the files
of the loops as well.
"""

from zwicky.kernels.cpu_gravity import gravity, potential
from zwicky.kernels.cpu_mesh import deposit, gather, sort_cells
from zwicky.kernels.cpu_sph import density, pressure

__all__ = ["density", "deposit", "gather", "gravity", "potential", "pressure", "sort_cells"]
