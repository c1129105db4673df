"""The public names: they resolve, in any order, and cost nothing until used."""

import os
import subprocess
import sys

import pytest

import zwicky

ENV = {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}


def python(code):
    done = subprocess.run([sys.executable, "-c", code], env=ENV, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("name", [n for n in zwicky.__all__ if n != "__version__"])
def test_public_names_resolve(name):
    assert callable(getattr(zwicky, name))
    assert name in dir(zwicky)


def test_unknown_names_are_attribute_errors():
    assert zwicky.__version__[0].isdigit()
    with pytest.raises(AttributeError, match="no attribute 'observ'"):
        zwicky.observ  # noqa: B018


def test_import_is_light():
    heavy = ("torch", "numba", "matplotlib", "astropy", "scipy")
    assert python(f"import sys, zwicky; print([m for m in {heavy} if m in sys.modules])") == "[]"


IMPORTS = {
    "module first": "import zwicky.observe.render; import zwicky; zwicky.observe.render.observe",
    "name first": "import zwicky; zwicky.observe; import zwicky.observe.project; zwicky.observe.project.project",
    "from": "from zwicky import observe; from zwicky.observe.channels import CHANNELS",
    "function last": "from zwicky import project; import zwicky.observe.sightlines; import zwicky",
}


@pytest.mark.parametrize("code", IMPORTS.values(), ids=IMPORTS)
def test_observe_is_both_a_function_and_a_package(code):
    check = "; import zwicky\ntry: zwicky.observe()\nexcept TypeError as e: print('particles' in str(e))"
    assert python(code + check) == "True"


def test_star_import_gives_the_public_names():
    assert python("from zwicky import *; print(observe.__name__, find_halos.__name__)") == "zwicky.observe find_halos"
