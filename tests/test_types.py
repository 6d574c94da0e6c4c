"""The contracts, held by every layer, activation, loss and penalty of the table; and the table leaves none out."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from table import ACTIVATIONS, LAYERS, LOSSES, PENALTIES, normwise

import fnn
from fnn import activations, combine, linear, losses, penalties

every_layer = pytest.mark.parametrize("case", LAYERS, ids=lambda case: f"{case.layer}")
KEY, DRAW = jax.random.key(0), jax.random.key(7)


# ---- nothing is missing from the table


def public(module, but=()):
    """The public things that a module makes itself: its functions, activations, losses."""
    return {
        name
        for name, thing in vars(module).items()
        if not name.startswith("_")
        and name not in but
        and (isinstance(thing, (fnn.Activation, fnn.Loss)) or isinstance(thing, types.FunctionType))
        and getattr(thing, "__module__", module.__name__) in (module.__name__, "fnn.types")
    }


@pytest.mark.parametrize(
    "module, cases, but",
    [
        (activations, [name for name, _ in ACTIVATIONS] + [case.name for case in LAYERS], {"elementwise"}),
        (linear, [case.name for case in LAYERS], set()),
        (combine, [case.name for case in LAYERS], {"as_layer"}),
        (losses, [case.name for case in LOSSES], {"from_function", "as_loss"}),
        (penalties, [case.name for case in PENALTIES], set()),
    ],
    ids=["activations", "linear", "combine", "losses", "penalties"],
)
def test_everything_public_is_in_the_table(module, cases, but):
    names = public(module, but)
    assert names, "nothing found: the search is broken"
    assert names <= set(cases), f"missing from tests/table.py: {sorted(names - set(cases))}"


def test_the_names_in_the_table_are_those_of_the_things():
    for name, activation in ACTIVATIONS:
        assert str(activation).split("(")[0] == name
    for case in LOSSES:
        assert str(case.loss) == case.name and getattr(losses, case.name) is case.loss
    for case in PENALTIES:
        assert str(case.penalty).split("(")[0] == case.name


# ---- layers


def point(case, rows=5):
    params, state, out_shape = case.layer.init(KEY, case.in_shape)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(rows, *case.in_shape)))
    return params, state, out_shape, x.astype(jnp.result_type(float))


@every_layer
def test_layer_gives_the_shape_and_the_dtype_it_announces(case):
    params, state, out_shape, x = point(case)
    assert jax.tree.all(jax.tree.map(lambda a: isinstance(a, jax.Array) and a.dtype == x.dtype, params))
    for rows in (5, 1):
        y, new_state, _ = case.layer.forward(params, state, x[:rows], DRAW, True)
        assert y.shape == (rows, *out_shape) and y.dtype == x.dtype
        assert jax.tree.structure(new_state) == jax.tree.structure(state)


@every_layer
def test_layer_is_pure_and_predicts_without_a_key(case):
    params, state, _, x = point(case)
    assert normwise(case.layer.init(KEY, case.in_shape)[0], params) == 0
    for key, train in ((None, False), (DRAW, True), (DRAW, fnn.Rows(jnp.ones(5, bool)))):
        one, two = (case.layer.forward(params, state, x, key, train)[0] for _ in range(2))
        assert normwise(one, two) == 0


@every_layer
def test_layer_treats_each_row_by_itself(case, x64):
    params, state, _, x = point(case)
    y = case.layer.forward(params, state, x, None, False)[0]
    one_by_one = [case.layer.forward(params, state, x[i : i + 1], None, False)[0][0] for i in range(5)]
    assert normwise(y, jnp.stack(one_by_one)) < 1e-14


@every_layer
def test_layer_goes_backward_as_autodiff_does(case, x64):
    params, state, _, x = point(case)
    for key, train in ((DRAW, True), (None, False)):
        y, pull = jax.vjp(lambda p, x, k=key, t=train: case.layer.forward(p, state, x, k, t)[0], params, x)
        dy = jnp.asarray(np.random.default_rng(1).normal(size=y.shape))
        cache = case.layer.forward(params, state, x, key, train)[2]
        assert normwise(case.layer.backward(params, cache, dy), pull(dy)) < 1e-12


@every_layer
@pytest.mark.parametrize("dtype", ["uint8", "int32"])
def test_layer_takes_integers_for_the_numbers_that_they_are(case, dtype):
    if not case.integers:
        pytest.skip("adds its inputs to floats, or is the user's own")
    params, state, _, x = point(case)
    x = jnp.round(3 * x) if dtype == "int32" else jnp.round(3 * jnp.abs(x))
    as_integers = case.layer.forward(params, state, x.astype(dtype), None, False)[0]
    as_floats = case.layer.forward(params, state, x, None, False)[0]
    np.testing.assert_allclose(np.asarray(as_integers, np.float32), as_floats, rtol=1e-6)
