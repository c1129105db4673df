"""Mock observations: `zwicky.observe(particles, halo, ...)` gives the maps of one halo.

The package can be called like the function `zwicky.observe.render.observe`, so that the name serves both.
"""

import sys
import types
from typing import Any


class _CallablePackage(types.ModuleType):
    def __call__(self, *args: Any, **options: Any) -> Any:
        from zwicky.observe.render import observe

        return observe(*args, **options)


sys.modules[__name__].__class__ = _CallablePackage
