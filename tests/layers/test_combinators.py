"""Networks from layers: serial, repeat, residual, functions as layers; and errors that name the layer at fault."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from tests.helpers.compare import close, normwise

KEY = jax.random.key(0)


def through(net, params, x, dy, key=None, train=True):
    """Outputs, derivatives by the parameters, derivative by the inputs."""
    state = net.init(KEY, x.shape[1:])[1]
    y, _, cache = net.forward(params, state, x, key, train)
    return (y, *net.backward(params, cache, dy))


def random(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


# ---- serial


def test_serial_equals_the_layers_one_after_another_in_numpy(x64):
    net = fnn.serial(fnn.dense(4, bias_init=1.0), fnn.tanh, fnn.dense(2, bias_init=1.0))
    params, state, out_shape = net.init(KEY, (3,))
    assert out_shape == (2,) and state == ((), (), ()) and params[1] == ()
    x, dy = random(5, 3), random(5, 2, seed=1)
    y, dparams, dx = through(net, params, x, dy)
    (w1, b1), _, (w2, b2) = ((p["w"], p["b"]) if p else () for p in params)
    h = np.tanh(x @ w1 + b1)
    dz = (1 - h**2) * (dy @ w2.T)
    close(y, h @ w2 + b2, atol=1e-14)
    expected = ({"w": x.T @ dz, "b": dz.sum(0)}, (), {"w": h.T @ dy, "b": dy.sum(0)})
    assert normwise(dparams, expected) < 1e-12
    assert normwise(dx, dz @ w1.T) < 1e-12


def test_serial_of_nothing_is_the_identity():
    params, state, out_shape = fnn.serial().init(KEY, (3,))
    assert (params, state, out_shape) == ((), (), (3,))
    x = random(2, 3)
    y, dparams, dx = through(fnn.serial(), (), x, 2 * x)
    np.testing.assert_array_equal(y, x)
    np.testing.assert_array_equal(dx, 2 * x)
    assert dparams == ()


def test_nested_serial_computes_what_the_flat_one_does(x64):
    a, b, c = fnn.dense(4), fnn.dense(3), fnn.dense(2)
    nested = fnn.serial(fnn.serial(a, fnn.tanh), fnn.serial(b, fnn.serial(fnn.relu, c)))
    flat = fnn.serial(a, fnn.tanh, b, fnn.relu, c)
    ((pa, _), (pb, (_, pc))) = params = nested.init(KEY, (3,))[0]
    x, dy = random(5, 3), random(5, 2, seed=1)
    y, ((da, _), (db, (_, dc))), dx = through(nested, params, x, dy)
    expected = through(flat, (pa, (), pb, (), pc), x, dy)
    assert normwise((y, (da, (), db, (), dc), dx), expected) == 0


def test_equal_layers_start_with_different_weights():
    params = fnn.serial(fnn.dense(3), fnn.dense(3)).init(KEY, (3,))[0]
    assert (params[0]["w"] != params[1]["w"]).all()


def test_layers_that_draw_numbers_draw_different_ones(x64):
    x = -jnp.ones((1, 50))
    net = fnn.serial(fnn.rrelu(), fnn.rrelu())
    first = fnn.rrelu().forward((), (), x, jax.random.fold_in(KEY, 0), True)[0]
    both = net.forward(((), ()), ((), ()), x, KEY, True)[0]
    second = both / first
    assert np.abs(second + first).max() > 0.01 and np.ptp(second) > 0.1


def test_new_states_come_back_in_the_places_of_the_old():
    counter = fnn.Layer(
        "counter",
        lambda key, in_shape: ((), jnp.zeros(()), in_shape),
        lambda params, state, x, key, train: (x, state + 1 if train else state, None),
        lambda params, cache, dy: ((), dy),
    )
    net = fnn.serial(counter, fnn.residual(counter, fnn.tanh), fnn.repeat(counter, 3))
    params, state, _ = net.init(KEY, (2,))
    for train, expected in ((True, 1), (False, 0)):
        new = net.forward(params, state, jnp.ones((1, 2)), None, train)[1]
        assert jax.tree.structure(new) == jax.tree.structure(state)
        assert [float(s) for s in jax.tree.leaves(new[:2])] == [expected] * 2
        np.testing.assert_array_equal(new[2], [expected] * 3)


# ---- repeat


@pytest.mark.parametrize("times", [1, 3])
def test_repeat_equals_serial_of_the_same_with_the_parameters_sliced(times, x64):
    layer = fnn.serial(fnn.dense(4, bias_init=1.0), fnn.rrelu())
    deep, unrolled = fnn.repeat(layer, times), fnn.serial(*[layer] * times)
    params, _, out_shape = deep.init(KEY, (4,))
    slices = tuple(jax.tree.map(lambda a, i=i: a[i], params) for i in range(times))
    assert out_shape == (4,) and params[0]["w"].shape == (times, 4, 4)
    assert normwise(slices, unrolled.init(KEY, (4,))[0]) < 1e-12
    x, dy = random(5, 4), random(5, 4, seed=1)
    for key, train in ((jax.random.key(3), True), (None, False)):
        y, dparams, dx = through(deep, params, x, dy, key, train)
        expected = through(unrolled, slices, x, dy, key, train)
        sliced = tuple(jax.tree.map(lambda a, i=i: a[i], dparams) for i in range(times))
        assert normwise((y, sliced, dx), expected) < 1e-12


def test_repeat_passes_the_mask_of_padded_rows_on():
    seen = []

    def forward(params, state, x, key, train):
        seen.append(train)
        return x, state, None

    layer = fnn.Layer("watch", lambda key, in_shape: ((), (), in_shape), forward, lambda p, c, dy: ((), dy))
    rows = fnn.Rows(jnp.array([True, False]))
    for net in (fnn.repeat(layer, 2), fnn.serial(layer), fnn.residual(layer)):
        params, state, _ = net.init(KEY, (2,))
        net.forward(params, state, jnp.ones((2, 2)), None, rows)
    assert len(seen) >= 3 and all(s is rows for s in seen)


@pytest.mark.parametrize("times", [0, -1, 2.0, None])
def test_repeat_a_number_of_times_that_is_none_raises(times):
    with pytest.raises(ValueError, match=f"repeat: expected times to be a whole number, at least 1, got {times}. "):
        fnn.repeat(fnn.tanh, times)


# ---- residual


def test_residual_adds_its_inputs_forward_and_the_derivative_backward(x64):
    block, inner = fnn.residual(fnn.dense(3), fnn.tanh), fnn.serial(fnn.dense(3), fnn.tanh)
    params = block.init(KEY, (3,))[0]
    x, dy = random(5, 3), random(5, 3, seed=1)
    y, dparams, dx = through(block, params, x, dy)
    f, df, fx = through(inner, params, x, dy)
    assert normwise((y, dparams, dx), (x + f, df, dy + fx)) == 0


# ---- functions as layers


def test_a_function_is_lifted_and_its_backward_comes_from_autodiff(x64):
    for function in (jnp.sin, lambda x: x**2, lambda x: x.reshape(len(x), -1), lambda x: x @ jnp.ones((2, 5))):
        net = fnn.serial(function)
        params, state, out_shape = net.init(KEY, (3, 2))
        x = random(4, 3, 2)
        y = function(x)
        assert out_shape == y.shape[1:] and params == state == ((),)
        dy = random(*y.shape, seed=1)
        got, dparams, dx = through(net, params, x, dy)
        assert dparams == ((),)
        assert normwise((got, dx), (y, jax.vjp(function, x)[1](dy)[0])) == 0
    assert str(fnn.serial(jnp.sin)) == "serial(sin)"


def test_as_layer_leaves_layers_as_they_are_and_lifts_functions():
    assert fnn.as_layer(fnn.dense(3)) is fnn.dense(3)
    assert fnn.as_layer(jnp.sin) is fnn.from_function(jnp.sin)
    assert str(fnn.as_layer(fnn.relu)) == "relu"


@pytest.mark.parametrize(
    "thing, name, hint",
    [
        (3, "int", r"dense\(10\)"),
        ("relu", "str", r"fnn\.relu"),
        (None, "NoneType", r"dense\(10\)"),
        ([fnn.relu], "tuple", r"serial\(\*layers\)"),
        (np.sin, "ufunc", "jnp.sin"),
        (fnn.losses.squared_error, "Loss", r"dense\(10\)"),
        (fnn.penalties.l2(0.1), "Penalty", r"dense\(10\)"),
    ],
)
def test_what_is_no_layer_raises(thing, name, hint):
    with pytest.raises(TypeError, match=rf"layer: expected a layer or a function, got {name} .* Write {hint}\."):
        fnn.serial(fnn.dense(3), thing)


# ---- errors name the layer at fault


@pytest.mark.parametrize(
    "net, in_shape, message",
    [
        (
            fnn.serial(fnn.relu, fnn.dense(3), fnn.relu),
            (28, 28),
            "layer 1, dense(3): expected examples of shape (fan_in,), got (28, 28). "
            "Put fnn.flatten() before it. "
            "(shapes up to here: (28, 28) -> (28, 28))",
        ),
        (
            fnn.serial(fnn.dense(8), fnn.tanh, fnn.residual(fnn.dense(4))),
            (3,),
            "layer 2, residual: expected layers that keep the shape, got (8,) -> (4,). "
            "End them with as many features as come in. (shapes up to here: (3,) -> (8,) -> (8,))",
        ),
        (
            fnn.serial(fnn.dense(8), fnn.repeat(fnn.dense(4), 2)),
            (3,),
            "layer 1, repeat: expected a layer that keeps the shape, got (8,) -> (4,) from dense(4). "
            "Put a layer to (4,) before it. (shapes up to here: (3,) -> (8,))",
        ),
    ],
    ids=str,
)
def test_layers_that_do_not_fit_raise_at_init(net, in_shape, message):
    with pytest.raises(fnn.ShapeError) as caught:
        net.init(KEY, in_shape)
    assert str(caught.value) == message


def test_an_error_inside_a_nested_network_names_the_layer_at_every_level():
    net = fnn.serial(fnn.relu, fnn.serial(fnn.tanh, fnn.repeat(fnn.serial(fnn.dense(3)), 2)))
    with pytest.raises(fnn.ShapeError, match=r"layer 1, layer 1, layer 0, dense\(3\): expected .* got \(2, 2\)"):
        net.init(KEY, (2, 2))


def test_what_prepares_the_inputs_does_not_change_the_weights_of_a_seed():
    net = fnn.serial(fnn.dense(3), fnn.tanh, fnn.dense(2))
    prepared = fnn.serial(fnn.flatten(), lambda x: 2 * x, fnn.dense(3), fnn.tanh, fnn.dense(2))
    weights = [jax.tree.leaves(n.init(jax.random.key(0), (4,))[0]) for n in (net, prepared)]
    for one, other in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, other)
