"""What checks hand on: arrays that are the run's own, keys that are JAX's; and whether numbers are finite."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import arguments
from fnn.data.arrays import owned_array
from fnn.training.state import COPIED_UP_TO, all_finite


@pytest.mark.parametrize("offset", [0, 16, 64])
@pytest.mark.parametrize("rows", [64, 100_000])
@pytest.mark.parametrize("dtype", ["float32", "int32", "uint8"])
def test_arrays_on_the_device_do_not_follow_what_they_were_made_of(dtype, rows, offset):
    memory = np.zeros(4 * rows + 256, np.uint8)
    begin = -memory.ctypes.data % 64 + offset  # where a CPU would take it as it is
    array = memory[begin : begin + rows * np.dtype(dtype).itemsize].view(dtype).reshape(-1, 2)
    taken = owned_array(array)
    array[:] = 1
    assert taken.shape == array.shape and taken.dtype == dtype and not np.asarray(taken).any()
    np.testing.assert_array_equal(owned_array(array[::-2]), array[::-2])


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg", "unsafe_rbg"])
@pytest.mark.parametrize("seed", [0, 7, 2**31, 2**32 + 5, 2**63 - 1])
def test_a_seed_is_the_key_that_jax_makes_of_all_its_bits(seed, impl):
    with jax.default_prng_impl(impl):
        ours = arguments.key(seed)
        with jax.enable_x64(True):  # else JAX drops the upper 32 bits
            assert ours == jax.random.key(seed)
        assert ours.dtype == jax.random.key(0).dtype


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("size", [3, COPIED_UP_TO, COPIED_UP_TO + 1])
@pytest.mark.parametrize("other", ["float32", "bfloat16", "int32"])
def test_one_number_that_is_not_finite_is_found_anywhere(other, size, bad):
    finite = jax.jit(all_finite)
    good = {"a": jnp.full((size,), 3e38), "b": jnp.ones((2, 2), other)}
    assert finite(good)
    assert not finite({**good, "a": good["a"].at[size // 2].set(bad)})
    if other != "int32":
        assert not finite({**good, "b": good["b"].at[1, 1].set(bad)})
