"""Convolutions of other libraries' networks become fnn's: the same values and derivatives, for what is replaced."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from fnn.layers.adapters.convolutions import use_fast_convolutions

RNG = np.random.default_rng(0)
NHWC, NCHW = ("NHWC", "HWIO", "NHWC"), ("NCHW", "OIHW", "NCHW")
CASES = {  # shape of x, of w, strides, padding, dilation, groups, orders of axes; whether it is replaced
    "plain": ((2, 7, 6, 3), (3, 2, 3, 4), (1, 1), "SAME", (1, 1), 1, NHWC, True),
    "strides and dilation": ((2, 9, 8, 3), (3, 2, 3, 4), (2, 3), ((1, 2), (0, 1)), (2, 1), 1, NHWC, True),
    "channels first, groups": ((2, 4, 7, 6), (6, 2, 3, 3), (1, 2), "VALID", (1, 1), 2, NCHW, True),
    "axes in mixed orders": ((2, 7, 6, 3), (4, 3, 3, 2), (1, 1), "SAME", (1, 1), 1, ("NHWC", "OIHW", "NCHW"), True),
    "one axis": ((2, 7, 3), (3, 3, 4), (1,), "SAME", (1,), 1, ("NHC", "HIO", "NHC"), False),
    "cut": ((2, 7, 6, 3), (3, 2, 3, 4), (1, 1), ((-1, 0), (0, 0)), (1, 1), 1, NHWC, False),
}


@pytest.mark.parametrize("name", CASES)
def test_values_and_derivatives_are_those_of_the_library(name, x64):
    of_x, of_w, strides, padding, dilation, groups, orders, replaced = CASES[name]
    x, w = jnp.asarray(RNG.normal(size=of_x)), jnp.asarray(RNG.normal(size=of_w))
    more = {"rhs_dilation": dilation, "feature_group_count": groups, "dimension_numbers": orders}

    def theirs(x, w):
        return jax.nn.relu(jax.jit(lambda x: lax.conv_general_dilated(x, w, strides, padding, **more))(x))

    def ours(x, w):
        return use_fast_convolutions(theirs, x, w)

    for function in (lambda f: f(x, w), lambda f: jax.grad(lambda *a: (f(*a) ** 2).sum(), (0, 1))(x, w)):
        for one, other in zip(*map(jax.tree.leaves, (function(ours), function(theirs))), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)
    on_a_cpu = jax.default_backend() == "cpu"  # elsewhere all stay
    assert ("conv_general_dilated" in str(jax.make_jaxpr(ours)(x, w))) != (replaced and on_a_cpu)
