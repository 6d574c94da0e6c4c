"""The three products of a dense layer equal NumPy's, in the way for few weights and in the way for many."""

import jax.numpy as jnp
import numpy as np
import pytest

from fnn.kernels import matmul
from tests.helpers.compare import close

FEW = [(1, 1), (3, 2), (4, 4), (1, matmul.FEW_WEIGHTS), (matmul.FEW_WEIGHTS, 1)]
MANY = [(1, matmul.FEW_WEIGHTS + 1), (matmul.FEW_WEIGHTS + 1, 1), (5, 4), (9, 13)]


@pytest.mark.parametrize("fan_in, features", FEW + MANY)
@pytest.mark.parametrize("rows", [1, 6])
def test_products_equal_numpy(rows, fan_in, features, x64):
    rng = np.random.default_rng(0)
    x, w, dy = rng.normal(size=(rows, fan_in)), rng.normal(size=(fan_in, features)), rng.normal(size=(rows, features))
    close(matmul.forward(jnp.asarray(x), jnp.asarray(w)), x @ w, atol=1e-14)
    close(matmul.weight_gradient(jnp.asarray(x), jnp.asarray(dy)), x.T @ dy, atol=1e-14)
    close(matmul.input_gradient(jnp.asarray(dy), jnp.asarray(w)), dy @ w.T, atol=1e-14)


def test_many_weights_go_to_the_library_and_few_do_not_on_a_cpu(monkeypatch):
    assert [matmul._few(shape) for shape in MANY] == [False] * len(MANY)
    monkeypatch.setattr(matmul.jax, "default_backend", lambda: "cpu")
    assert [matmul._few(shape) for shape in FEW] == [True] * len(FEW)
    monkeypatch.setattr(matmul.jax, "default_backend", lambda: "gpu")
    assert [matmul._few(shape) for shape in FEW] == [False] * len(FEW)
