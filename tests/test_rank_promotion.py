"""JAX can be set to refuse what NumPy broadcasts in silence; nothing of fnn needs that it does not."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fnn
from experiments.derivatives import convolutions
from experiments.derivatives.activations import ACTIVATIONS
from experiments.derivatives.layers import LAYERS
from experiments.derivatives.losses import LOSSES, TRANSFORMED, numbers
from tests.helpers.problems import LABELS, LOSS, X, net

CASES = [case for case in (*LAYERS, *convolutions.LAYERS) if case.name != "from_function"]  # the user's own


@pytest.fixture(autouse=True)
def raising(x64):
    with jax.numpy_rank_promotion("raise"):
        yield


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.layer}")
def test_layers(case):
    key = jax.random.key(0)

    def all_ways(x):
        params, state, _ = case.layer.init(key, case.in_shape)
        for train in (False, True, fnn.Rows(jnp.array([True, True, False]))):
            y, _, cache = case.layer.forward(params, state, x, key, train)
            case.layer.backward(params, cache, jnp.ones_like(y))

    jax.eval_shape(all_ways, jax.ShapeDtypeStruct((3, *case.in_shape), float))


def test_activations_and_losses():
    for _, activation in ACTIVATIONS:
        jax.eval_shape(jax.grad(lambda x, a=activation: a(x).sum()), jnp.ones((3, 2)))
        jax.eval_shape(activation.backward, jnp.ones((3, 2)), jnp.ones((3, 2)))
    for case in (*LOSSES, *TRANSFORMED):
        count = 4 if case.name == "class_weighted" else 3
        y, t = jnp.asarray(numbers(case.outputs, 5, count)), jnp.asarray(numbers(case.targets, 5, count))
        jax.eval_shape(lambda y, t, loss=case.loss: (loss(y, t), loss.grad(y, t)), y, t)


@pytest.mark.slow
def test_folds_with_settings_weights_metrics_and_standardisation():
    found = fnn.cross_validate(net(), LOSS, lambda s: optax.adam(s["lr"]), (X, LABELS), epochs=1, folds=2, width=2,
                               batch_size=32, standardise=True, over={"lr": [0.1, 0.2]}, weights=np.linspace(0, 1, 100),
                               metrics={"accuracy": fnn.accuracy}, progress=False)  # fmt: skip
    assert np.isfinite(found.table["loss"]).all()
