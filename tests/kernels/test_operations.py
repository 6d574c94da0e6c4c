"""Operations by primitives: what `jax.numpy` makes, to the bit, in every dtype; and no function per shape."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn.kernels import operations
from fnn.kernels.compiler_options import quick_compile_options
from tests.helpers.traced import functions_in


def both(x):
    """What each operation makes, and what `jax.numpy` makes."""
    row, flags, at = x[:, 0], x > 3, jnp.array([2, 0, 2])
    pairs = {
        "where, a number": (operations.where(flags, x, 0), jnp.where(flags, x, 0)),
        "where, a number first": (operations.where(flags, 1, x), jnp.where(flags, 1, x)),
        "where, one flag": (operations.where(flags[0, 0], x, x + x), jnp.where(flags[0, 0], x, x + x)),
        "across": (operations.across(row, x), jnp.broadcast_to(row[:, None], x.shape)),
        "add_to_rows": (operations.add_to_rows(x, x[1]), x + x[1][None]),
        "add_to_rows, another dtype": (operations.add_to_rows(x, x[1].astype("float32")), x + x[1].astype("float32")),
        "take_rows": (operations.take_rows(x, at), x[at]),
        "take_rows, numbers": (operations.take_rows(row, at), row[at]),
    }
    if jnp.issubdtype(x.dtype, jnp.floating):  # integers are added up in a wider dtype by `jax.numpy`
        pairs["sum_of_rows"] = operations.sum_of_rows(x), x.sum(-1)
    return pairs


@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "float64", "int32"])
def test_each_gives_the_bits_of_numpys_of_jax(dtype):
    with jax.enable_x64(dtype == "float64"), jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        x = jnp.asarray(10 * np.random.default_rng(0).normal(size=(3, 40)), dtype)
        for name, (made, wanted) in jax.jit(both, compiler_options=quick_compile_options())(x).items():
            assert made.dtype == wanted.dtype, name
            np.testing.assert_array_equal(made, wanted, err_msg=name)
        assert operations.number(1, x).dtype == x.dtype


def test_the_loss_of_a_classifier_and_the_order_of_rows_call_no_functions():
    # JAX traces, lowers and differentiates each function of its own anew for every shape
    y, t = jax.ShapeDtypeStruct((6, 3), jnp.float32), jax.ShapeDtypeStruct((6,), jnp.int32)
    loss = fnn.losses.sparse_softmax_cross_entropy
    key, epoch = jax.ShapeDtypeStruct((2,), jnp.uint32), jax.ShapeDtypeStruct((), jnp.int32)
    programs = [
        jax.make_jaxpr(jax.grad(lambda y, t: loss(y, t).mean()))(y, t),
        jax.make_jaxpr(fnn.accuracy)(y, t),
        jax.make_jaxpr(lambda key, epoch: fnn.kernels.random.permutation(key, epoch, 7))(key, epoch),
    ]
    assert [functions_in(program.jaxpr) for program in programs] == [0, 0, 0]
