"""`parallel` and `select`: by name and by place, on several inputs and on one; what they refuse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn

A, B = jnp.asarray([[1.0, 2.0]]), jnp.asarray([[3.0]])


def forward(layer, shapes, x):
    params, state, _ = layer.init(jax.random.key(0), shapes)
    y, _, cache = layer.forward(params, state, x, None, False)
    return params, y, cache


def test_by_name_and_by_place_are_the_same_numbers():
    named, placed = fnn.parallel(a=fnn.dense(3), b=fnn.tanh), fnn.parallel(fnn.dense(3), fnn.tanh)
    params, y, cache = forward(named, {"a": (2,), "b": (1,)}, {"a": A, "b": B})
    others, z, others_cache = forward(placed, ((2,), (1,)), (A, B))
    np.testing.assert_array_equal(params["a"]["w"], others[0]["w"])
    np.testing.assert_array_equal(y["a"], z[0])
    np.testing.assert_array_equal(y["b"], jnp.tanh(B))
    dx = named.backward(params, cache, {"a": jnp.ones((1, 3)), "b": B})[1]
    dz = placed.backward(others, others_cache, (jnp.ones((1, 3)), B))[1]
    np.testing.assert_array_equal(dx["a"], dz[0])
    np.testing.assert_array_equal(dx["b"], dz[1])


def test_one_array_goes_through_all_and_its_derivatives_add_up():
    layer = fnn.parallel(a=lambda x: 2 * x, b=fnn.serial())
    _, y, cache = forward(layer, (2,), A)
    assert (y["a"] == 2 * A).all() and (y["b"] == A).all()
    np.testing.assert_array_equal(layer.backward({"a": (), "b": ()}, cache, {"a": A, "b": 10 * A})[1], 12 * A)


def test_select_passes_back_nothing_to_the_others():
    layer = fnn.select("b")
    _, y, cache = forward(layer, {"a": (2,), "b": (1,), "n": ()}, {"a": A, "b": B, "n": jnp.asarray([7])})
    dx = layer.backward((), cache, y)[1]
    assert (dx["b"] == B).all() and not dx["a"].any() and dx["n"].dtype == jnp.float32 and not dx["n"].any()
    assert fnn.select(-1).init(None, ((2,), (1,)))[2] == (1,)


def test_a_factory_remembers_arguments_of_any_name():
    layer = fnn.parallel(a=fnn.dense(3), b=fnn.tanh)
    assert layer is fnn.parallel(a=fnn.dense(3), b=fnn.tanh) and layer != fnn.parallel(a=fnn.dense(3), c=fnn.tanh)
    assert str(layer) == "parallel(a=dense(3), b=tanh)" and layer.layers == (fnn.dense(3), fnn.tanh)


@pytest.mark.parametrize(
    "make, wanted",
    [
        (lambda: fnn.parallel(), "parallel: expected layers by name, or layers by place, got none"),
        (lambda: fnn.parallel(fnn.tanh, a=fnn.tanh), "parallel: .* got both"),
        (lambda: fnn.parallel(a=3), "parallel: a: expected a layer"),
        (
            lambda: fnn.parallel(a=fnn.tanh).init(None, {"b": (2,)}),
            "parallel: expected inputs named a, got those named b",
        ),
        (
            lambda: fnn.parallel(fnn.tanh).init(None, ((2,), (1,))),
            "parallel: expected a tuple of 1 inputs, got a tuple of 2",
        ),
        (lambda: fnn.parallel(a=fnn.dense(2)).init(jax.random.key(0), {"a": ()}), "a: dense.2.: expected examples"),
        (lambda: fnn.select(1.5), "select: expected a name or a number"),
        (
            lambda: fnn.select("a").init(None, (2,)),
            "select.'a'.: expected inputs with 'a' among them, got a single one",
        ),
        (lambda: fnn.select(2).init(None, ((2,), (1,))), "select.2.: .* got a tuple of 2"),
        (
            lambda: fnn.serial(fnn.dense(2)).init(jax.random.key(0), {"a": (2,)}),
            "dense.2.: expected one array, got several",
        ),
        (lambda: fnn.serial(fnn.relu).init(jax.random.key(0), {"a": (2,)}), "relu: expected one array, got several"),
    ],
)
def test_what_does_not_fit_is_named(make, wanted):
    with pytest.raises((ValueError, TypeError), match=wanted):
        make()


NETS = {
    "parallel": fnn.serial(fnn.parallel(a=fnn.dense(2), b=fnn.dense(2)), fnn.add()),
    "select": fnn.serial(fnn.select("a"), fnn.dense(2)),
}
OTHERS = {"place": (A, B), "name": {"b": B}}


@pytest.mark.parametrize("given", OTHERS)
@pytest.mark.parametrize("name", NETS)
def test_a_run_without_shapes_names_the_inputs_that_are_missing(name, given):
    """Before a network is called its inputs are looked at for categories, which is not to fail first."""
    params, state, _ = NETS[name].init(jax.random.key(0), {"a": (2,), "b": (1,)})
    run = fnn.Run(params, state, None, None, None)
    assert fnn.predict(NETS[name], run, {"a": A, "b": B}).shape == (1, 2)
    for call in (fnn.predict, lambda net, run, x: fnn.predictor(net, run)(x)):
        with pytest.raises(fnn.ShapeError, match=rf"^{name}.*: expected inputs (named a, b|with 'a' among them), got"):
            call(NETS[name], run, OTHERS[given])
