"""Products as a GPU computes them, on a CPU: of numbers rounded to 10 bits, unless full precision is asked for."""

from contextlib import contextmanager

import jax
import pytest
from jax import lax

import fnn
from fnn.kernels import matmul


@contextmanager
def products_of_a_gpu():
    """In this context those of dense layers are rounded, and what asks for the platform is told that it is a GPU."""
    fnn.clear_caches()  # programs of before know nothing of it, and those of here are for nobody after it
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax, "default_backend", lambda: "gpu")
        for name in ("forward", "weight_gradient", "input_gradient"):
            patch.setattr(matmul, name, _of_rounded(getattr(matmul, name)))
        yield
    fnn.clear_caches()


def _of_rounded(product):
    def rounded(one, other):
        if jax.config.jax_default_matmul_precision != "highest":
            one, other = (lax.reduce_precision(factor, 8, 10) for factor in (one, other))
        return product(one, other)

    return rounded
