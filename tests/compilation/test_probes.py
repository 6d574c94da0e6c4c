"""What the parts of a run give for fixed inputs: alike for the same parts, and not for others."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fnn
from fnn.compilation.probes import alike, probe
from fnn.training.config import TrainerConfig

NET = fnn.serial(fnn.dense(4), fnn.tanh, fnn.dense(2))
LOSS = fnn.losses.sparse_softmax_cross_entropy
RECIPE = TrainerConfig(
    NET, LOSS, optax.adam(0.01), fnn.penalties.l2(0.1), fnn.autodiff, (("accuracy", fnn.accuracy),), 8, True, "mean"
)
ROWS = fnn.Part(jnp.ones((9, 3)), jnp.zeros(9, int))


def probed(**changed):
    return probe(RECIPE._replace(**changed), ("lr",), ROWS, NET.init(jax.random.key(0), (3,))[0])


@pytest.fixture(scope="module")
def expected():
    return probed()


def scaled(*arguments):
    of = fnn.autodiff(*arguments)
    return lambda *a: (lambda g: g._replace(grads=jax.tree.map(lambda v: 1.01 * v, g.grads)))(of(*a))


CHANGED = {
    "net": {"net": fnn.serial(fnn.dense(4), fnn.sigmoid, fnn.dense(2))},
    "loss": {"loss": lambda y, t: 1.01 * LOSS(y, t)},
    "penalty": {"penalty": fnn.penalties.l1(0.1)},
    "optimizer": {"optimizer": optax.adam(-0.01)},
    "optimizer ": {"optimizer": optax.adam(0.01, b1=0.91)},  # seen at the second step
    "gradient": {"gradient": scaled},
    "metrics.accuracy": {"metrics": (("accuracy", LOSS),)},
}


@pytest.mark.parametrize("name", CHANGED)
def test_a_part_that_computes_something_else_gives_something_else(name, expected):
    other = probed(**CHANGED[name])
    assert other.keys() == expected.keys()
    assert not alike(expected[name.strip()], other[name.strip()], "float32")


def test_the_same_made_anew_is_alike_and_backprop_is_as_autodiff(expected):
    again = probed(optimizer=lambda s: optax.adam(0.01), gradient=fnn.backprop, loss=lambda y, t: LOSS(y, t))
    assert sorted(again) == ["gradient", "loss", "metrics.accuracy", "net", "optimizer", "penalty"]
    assert all(alike(expected[name], again[name], "float32") for name in again)


def test_a_part_that_cannot_run_is_left_out(expected):
    def failing(outputs, targets):
        raise OSError("no file")

    made = probed(metrics=(("failing", failing), ("accuracy", fnn.accuracy)))
    assert sorted(made.keys() - expected.keys()) == [] and "metrics.failing" not in made
    broken = probed(metrics=(("failing", lambda y, t: jax.pure_callback(failing, y[:, 0], y, t)),))
    assert broken == {}


def test_alike_is_by_size_and_nan_is_nan():
    assert alike([1.0, 0.5, np.nan, np.inf], [1.0001, 0.4999, np.nan, np.inf], "float32")
    assert not alike([1.0, 0.5], [1.0, -0.5], "float32") and not alike([1.0, 0.5], [1.01, 0.5], "float32")
    assert alike([1.0, 0.5], [1.01, 0.5], "bfloat16") and not alike([1.0, 0.5], [1.0, 0.5, 2.0, 1.0], "float32")
    assert not alike([1.0, np.nan], [1.0, 1.0], "float32") and alike([0.0, 0.0], [0.0, 0.0], "float32")
