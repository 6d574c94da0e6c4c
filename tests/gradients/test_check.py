"""The user's tool: right derivatives pass, wrong ones are found, and the verdict says which leaf and by what factor.

That the library's own rules are right, and that every planted error in them is found, is in `test_proof`.
"""

import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from experiments.derivatives.losses import numbers
from experiments.derivatives.regimes import QUICK
from fnn import losses
from tests.helpers.tf32 import products_of_a_gpu

KEY = jax.random.key(1)
X = [[1.0, 0.4], [-0.6, 1.3], [0.3, -1.1], [-1.2, -0.5]]


def check(net, loss=losses.squared_error, targets="reals", penalty=None, show=False, **rest):
    """A check on four rows of two inputs, with weights that keep the first layer's outputs 0.3 away from any kink."""
    params, state, out_shape = net.init(jax.random.key(0), (2,))
    x = jnp.array(X)
    t = jnp.asarray(numbers(targets, 4, out_shape[0]), x.dtype if targets != "labels" else None)
    return fnn.check_gradients(
        net, loss, jax.tree.map(weights, params), state, x, t, KEY, True, penalty, show=show, **rest
    )


def weights(like):
    size = np.random.default_rng([1845, *like.shape]).uniform(0.4, 0.9, like.shape)
    return jnp.asarray(size * np.resize([1.0, -1.0, 1.0, 1.0, -1.0], like.shape), like.dtype)


def wrong(result):
    return {leaf.leaf for leaf in result.leaves if not leaf.ok}


NORMED = fnn.serial(fnn.dense(3), fnn.batch_norm(), fnn.relu, fnn.dense(2))


def bad(layer, dparams=lambda d: d, dx=lambda d: d):
    """A layer with a wrong backward: by its parameters, or by its inputs."""
    layer = fnn.as_layer(layer)

    def backward(params, cache, dy):
        by_params, by_inputs = layer.backward(params, cache, dy)
        return dparams(by_params), dx(by_inputs)

    return layer._replace(spec="bad", backward=backward)


def on(leaf, plant):
    """The plant on one leaf of a layer's parameters."""
    return lambda d: {**d, leaf: plant(d[leaf])}


def dense(features=2):
    return fnn.dense(features, bias=False)


# ---- right derivatives pass


@pytest.mark.slow
def test_a_nested_network_with_weights_and_a_penalty_is_right(x64):
    block = fnn.residual(fnn.dense(2, bias=False), fnn.prelu())
    net = fnn.serial(fnn.dense(2), fnn.repeat(block, 2), jnp.sin)
    weight, penalty = jnp.array([1.0, 0.0, 2.0, 0.5]), fnn.penalties.l2(0.1)
    result = check(net, penalty=penalty, weight=weight, reduction="sum")
    assert result.ok, str(result)
    assert [leaf.leaf for leaf in result.leaves] == ["0.b", "0.w", "1.0.w", "1.1.a", "x"]
    for leaf in result.leaves:
        assert leaf.autodiff < 1e-12 and leaf.complex_step < 1e-13 and leaf.numerical < 1e-10
        assert leaf.verdict == "right" and leaf.factor == pytest.approx(1)


@pytest.mark.slow
def test_float32_is_right_within_its_digits():
    result = check(fnn.serial(fnn.dense(3), fnn.tanh, fnn.dense(3)), losses.softmax_cross_entropy, "distributions")
    assert result.ok, str(result)


@pytest.mark.slow
def test_large_leaves_are_right_in_float32():
    assert check(fnn.serial(fnn.dense(300), fnn.tanh, fnn.dense(2))).ok


@pytest.mark.slow
def test_noise_and_normalisation_are_right(x64):
    net = fnn.serial(dense(4), fnn.batch_norm(), fnn.softplus, fnn.dropout(0.3), fnn.layer_norm(), fnn.dense(2))
    assert check(net).ok


def test_a_bias_before_batch_norm_has_derivative_0_and_is_not_called_wrong(x64):
    result = check(fnn.serial(fnn.dense(3), fnn.batch_norm(), fnn.tanh, dense()))
    verdicts = {leaf.leaf: leaf.verdict for leaf in result.leaves}
    assert result.ok and verdicts.pop("0.b") in ("right", "0 to rounding") and set(verdicts.values()) == {"right"}


@pytest.mark.slow
def test_integer_inputs_have_no_derivative_and_are_left_out(x64):
    net = fnn.serial(fnn.dense(2))
    params, state, _ = net.init(jax.random.key(0), (2,))
    t = jnp.ones((2, 2))
    result = fnn.check_gradients(net, losses.squared_error, params, state, [[1, 2], [3, 4]], t, show=False)
    assert result.ok and [leaf.leaf for leaf in result.leaves] == ["0.b", "0.w"]


def test_nothing_to_check_raises():
    with pytest.raises(TypeError, match=r"x: expected floating inputs for a network without .*, got int32\. [A-Z]"):
        fnn.check_gradients(fnn.serial(fnn.tanh), losses.squared_error, ((),), ((),), [[1], [2]], jnp.ones((2, 1)))


def test_derivatives_that_vanish_are_rounding_and_not_wrong():
    params, state, _ = NORMED.init(jax.random.key(0), (2,))
    x = jnp.array(X)
    t, _, _ = NORMED.forward(params, state, x, None, True)
    result = fnn.check_gradients(NORMED, losses.squared_error, params, state, x, t, show=False)
    assert result.ok, str(result)
    verdicts = {leaf.leaf: leaf.verdict for leaf in result.leaves}
    assert verdicts.pop("0.b") == "0 to rounding"  # a bias before a batch_norm
    assert set(verdicts.values()) == {"right"}  # seen at the points nearby, where targets are not outputs


@pytest.mark.slow
def test_outputs_that_equal_their_targets_but_for_an_ulp_are_not_called_wrong(x64):
    net, x = fnn.serial(fnn.dense(2), fnn.leaky_relu(), fnn.dense(2)), jnp.array(X)
    loss = losses.from_function(lambda y, t: ((y - t) ** 4.0).sum(-1), lambda y, t: 4 * (y - t) ** 3)

    def right(key):
        params, state, _ = net.init(key, x.shape[1:])
        t = net.forward(params, state, x, None, True)[0]
        return fnn.check_gradients(net, loss, params, state, x, t, show=False).figures["ok"].all()

    assert jax.jit(jax.vmap(right))(jax.random.split(jax.random.key(0), 100)).all()


@pytest.mark.slow
@pytest.mark.parametrize("size", [1e-3, 1e3])
def test_steps_are_measured_by_the_parameters(size):
    net = fnn.serial(fnn.layer_norm(), dense(), fnn.batch_norm(), fnn.tanh)
    params, state, _ = net.init(jax.random.key(0), (2,))
    params = jax.tree.map(lambda p: jnp.asarray(size, p.dtype) * p, params)
    x = jnp.asarray(size, jnp.float32) * jnp.array(X)
    result = fnn.check_gradients(net, losses.squared_error, params, state, x, jnp.ones((4, 2)), show=False)
    assert result.ok, str(result)


def test_mixed_precision_is_right_and_a_mistake_in_it_is_found():
    inside = fnn.serial(dense(3), fnn.relu)
    right = check(fnn.mixed_precision(fnn.serial(inside, dense())))
    assert right.ok and {leaf.verdict for leaf in right.leaves} == {"right"}, str(right)
    mistaken = bad(dense(), on("w", lambda d: d * jnp.asarray(1.1, d.dtype)))
    result = check(fnn.mixed_precision(fnn.serial(inside, mistaken)))
    assert wrong(result) == {"1.w"}, str(result)


# ---- wrong ones are found, and named

MISTAKES = {  # name: the network with the mistake, the leaves that are wrong, what the verdict says of the first
    "a forgotten factor 2": (fnn.serial(bad(dense(), on("w", lambda d: d / 2)), fnn.tanh), {"0.w"}, "0.5 times the"),
    "1 + 1e-6": (fnn.serial(dense(), bad(fnn.tanh, dx=lambda d: d * (1 + 1e-6))), {"0.w", "x"}, "1 + 1.0e-06 times"),
    "a sign": (fnn.serial(bad(fnn.dense(3), on("b", jnp.negative)), fnn.tanh, dense()), {"0.b"}, "-1 times the"),
    "left out": (fnn.serial(bad(fnn.dense(3), on("b", jnp.zeros_like)), dense()), {"0.b"}, "by hand is 0"),
    "transposed": (fnn.serial(bad(dense(), on("w", jnp.transpose)), fnn.tanh), {"0.w"}, "WRONG: at ["),
    "not a number": (fnn.serial(dense(), bad(fnn.tanh, dx=lambda d: d * jnp.nan)), {"0.w", "x"}, "by hand nan"),
}


LATER = dict.fromkeys(["a sign", "left out", "transposed", "1 + 1e-6"], pytest.mark.slow)


@pytest.mark.parametrize("name", [pytest.param(name, marks=LATER.get(name, ())) for name in MISTAKES])
def test_a_mistake_is_found_in_its_leaf_and_its_size_is_named(name, x64):
    net, leaves, verdict = MISTAKES[name]
    result = check(net)
    assert not result.ok and wrong(result) == leaves
    assert verdict in next(leaf.verdict for leaf in result.leaves if not leaf.ok)


def test_wrong_losses_and_penalties_are_found(x64):
    half = losses.squared_error._replace(grad=lambda y, t: y - t)
    result = check(fnn.serial(dense(3)), half)
    assert wrong(result) == {"0.w", "x"} and "0.5 times" in result.leaves[0].verdict
    penalty = fnn.penalties.l2(0.1)
    result = check(fnn.serial(fnn.dense(2)), penalty=penalty._replace(grad=lambda p: jax.tree.map(jnp.zeros_like, p)))
    assert wrong(result) == {"0.w"}


def test_an_error_in_both_derivatives_is_found_by_the_function_itself(x64):
    @jax.custom_jvp
    def square(x):
        return x * x

    square.defjvp(lambda primals, tangents: (square(*primals), 2.001 * primals[0] * tangents[0]))
    result = check(fnn.serial(dense(), square))
    assert wrong(result) == {"0.w", "x"}
    for leaf in result.leaves:
        assert leaf.autodiff < 1e-12 and leaf.complex_step > 1e-4 and leaf.numerical > 1e-4
        assert leaf.verdict == "WRONG: by hand and autodiff agree, and the function itself says otherwise"


@pytest.mark.slow
def test_one_wrong_number_in_a_large_leaf_is_found(x64):
    net = fnn.serial(dense(150), fnn.tanh, bad(dense(2), on("w", lambda d: d.at[7, 1].multiply(1.01))))
    result = check(net)
    assert wrong(result) == {"2.w"} and result.leaves[1].worst == (7, 1)
    assert check(fnn.serial(dense(150), fnn.tanh, dense(2))).ok


def own(init, forward, backward):
    """A layer with one number per feature, its forward of (a, x) and its backward of (a, x, dy)."""
    return fnn.Layer(
        "own",
        lambda key, shape: ({"a": jnp.full(shape, init)}, (), shape),
        lambda params, state, x, key, train: (forward(params["a"], x), state, x),
        lambda params, x, dy: (lambda da, dx: ({"a": da.sum(0)}, dx))(*backward(params["a"], x, dy)),
    )


HIDDEN = {  # name: a layer whose mistake its first values hide, the leaf that is wrong
    "a factor of 1": (own(1.0, lambda a, x: a * x, lambda a, x, dy: (x * dy, dy)), {"0.w", "x"}),
    "a power of 1": (own(1.0, lambda a, x: a**3 * x, lambda a, x, dy: (3 * x * dy, a**3 * dy)), {"1.a"}),
    "a term times 0": (own(0.0, lambda a, x: x + a * x**2, lambda a, x, dy: (x**2 * dy, dy)), {"0.w", "x"}),
}


LATER = dict.fromkeys(["a power of 1", "a factor of 1"], pytest.mark.slow)


@pytest.mark.parametrize("name", [pytest.param(name, marks=LATER.get(name, ())) for name in HIDDEN])
def test_a_mistake_that_ones_and_zeros_hide_is_found(name, x64):
    layer, leaves = HIDDEN[name]
    net = fnn.serial(dense(), layer, fnn.tanh)
    params, state, _ = net.init(jax.random.key(0), (2,))
    result = fnn.check_gradients(net, losses.squared_error, params, state, jnp.array(X), jnp.ones((4, 2)), show=False)
    assert wrong(result) == leaves, str(result)


# ---- kinks, and what has no complex form


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_networks_with_kinks_are_right_for_every_seed(dtype):
    """The README's first program with relu in place of tanh: a kink 2e-4 away lies inside the steps."""
    net, x = fnn.serial(fnn.dense(16), fnn.relu, fnn.dense(2)), np.random.default_rng(0).uniform(-2, 2, (100, 2))
    t = (np.hypot(*x.T) < 1).astype(int)

    def one(seed):
        params, state, _ = net.init(jax.random.key(seed), (2,))
        params = jax.tree.map(lambda p: p.astype(dtype), params)
        return fnn.check_gradients(net, losses.sparse_softmax_cross_entropy, params, state, jnp.asarray(x, dtype), t)

    with jax.enable_x64(dtype == "float64"):
        result = jax.jit(jax.vmap(one), compiler_options=QUICK)(jnp.arange(12))
    assert result.ok.all() and np.asarray(result.figures["judged"]).all()


def test_where_every_step_crosses_a_kink_the_others_judge(x64):
    net, x = fnn.serial(fnn.from_function(lambda x: jnp.abs(x[:, ::-1] - 1.0))), jnp.ones((2, 2)) + 1e-9
    result = fnn.check_gradients(net, losses.squared_error, ((),), ((),), x, x, show=False)
    (leaf,) = result.leaves
    assert leaf.verdict == "right" and leaf.crossed and 0 < leaf.kink < 1e-8
    assert "differences 1 (1 too near a kink at the given point);" in str(result)


def test_what_nothing_can_judge_is_named(x64):
    @jax.custom_jvp
    def strange(x):
        return x

    strange.defjvp(lambda primals, tangents: (primals[0], tangents[0] * jnp.nan))
    net = fnn.serial(bad(fnn.from_function(lambda x: jax.scipy.special.erf(strange(x)) * jnp.nan)))
    result = fnn.check_gradients(net, losses.squared_error, ((),), ((),), jnp.array(X), jnp.ones((4, 2)), show=False)
    assert result.ok and result.leaves[0].verdict == "not judged: not finite" and not result.leaves[0].judged
    assert str(result).endswith("Not judged: x (not judged: not finite).")


@pytest.mark.slow
def test_the_distance_to_the_nearest_kink(x64):
    net = fnn.serial(fnn.from_function(fnn.relu.value))
    x = jnp.array([[0.25, -3.0], [7.0, -0.125]])
    (leaf,) = fnn.check_gradients(net, losses.squared_error, ((),), ((),), x, jnp.zeros((2, 2)), show=False).leaves
    assert leaf.kink == 0.125 and leaf.ok
    smooth = fnn.serial(fnn.sigmoid, fnn.softplus, fnn.softmax)
    (leaf,) = fnn.check_gradients(smooth, losses.squared_error, ((),) * 3, ((),) * 3, x, x, show=False).leaves
    assert leaf.kink == np.inf and leaf.ok


def test_at_a_kink_the_differences_do_not_count(x64):
    x, net = jnp.array([[0.0, -3.0], [7.0, -0.125]]), fnn.serial(fnn.relu)
    (leaf,) = fnn.check_gradients(net, losses.absolute_error, ((),), ((),), x, x - 1.0, show=False).leaves
    assert leaf.kink == 0 and leaf.ok


@pytest.mark.slow
def test_a_function_without_a_complex_form_is_checked_by_differences(x64):
    result = check(fnn.serial(dense(), fnn.gelu))
    assert result.ok and all(np.isnan(leaf.complex_step) and leaf.numerical < 1e-9 for leaf in result.leaves)
    assert str(result).splitlines()[2].split()[4] == "-"


def test_without_a_complex_form_differences_do_not_judge_what_is_held_constant(x64):
    centre = losses.from_function(  # the squared distance to the batch's mean, which counts as a constant
        lambda y, t: ((y - jax.lax.stop_gradient(y.mean(0)) - t) ** 2 + 0 * jax.scipy.special.erf(y)).sum(-1),
        grad=lambda y, t: 2 * (y - y.mean(0) - t),
        name="centre",
    )
    result = check(fnn.serial(dense()), centre)
    assert result.ok and all(np.isnan(leaf.complex_step) and np.isnan(leaf.numerical) for leaf in result.leaves)
    assert {leaf.verdict for leaf in result.leaves} == {"right"}


# ---- inside other programs


@pytest.mark.slow
def test_it_runs_under_jit_vmap_and_scan(x64, capsys):
    right, net = (fnn.serial(layer, fnn.tanh) for layer in (dense(), bad(dense(), on("w", lambda d: 2 * d))))
    params, state, _ = net.init(jax.random.key(0), (2,))
    t = jnp.asarray(numbers("reals", 4, 2))

    def of(net, scale):
        scaled = jax.tree.map(lambda p: scale * p, params)
        return fnn.check_gradients(net, losses.squared_error, scaled, state, jnp.array(X), t)

    scales = jnp.array([0.5, 1.0, 2.0])
    alone = jax.jit(lambda scale: of(net, scale))(1.0)
    assert not alone.ok and wrong(alone) == {"0.w"} and "2 times" in alone.leaves[0].verdict
    mapped = jax.vmap(lambda scale: of(right, scale))(scales)
    assert mapped.ok.shape == (3,) and mapped.ok.all()
    _, scanned = jax.lax.scan(lambda _, scale: (None, of(net, scale).ok), None, scales)
    assert scanned.shape == (3,) and not scanned.any()
    assert capsys.readouterr().out == ""


# ---- the table


def test_the_table_names_leaf_shape_and_verdict(x64, capsys):
    result = check(fnn.serial(bad(fnn.dense(2), on("b", lambda d: -d))), show=True)
    printed = capsys.readouterr().out
    assert printed == f"{result}\n"
    head, _, *rows, _, last = printed.splitlines()
    assert head.split("  ")[0] == "leaf" and head.endswith("verdict")
    assert [row.split()[0] for row in rows] == ["0.b", "0.w", "x"]
    assert rows[0].endswith("WRONG: by hand is -1 times the derivative") and rows[1].endswith("right")
    assert last == (
        "1 of 3 WRONG; judged by autodiff 3, a complex step 3, differences 3; at the given point and at 3 near it. "
        "Not judged: none."
    )


@pytest.mark.slow  # a time, and so not for a busy machine
def test_the_table_of_the_2_3_2_network_takes_less_than_3_seconds(x64):
    begun = time.perf_counter()
    assert check(fnn.serial(fnn.dense(3), fnn.sigmoid, fnn.dense(2)), losses.softmax_cross_entropy, "distributions").ok
    assert time.perf_counter() - begun < 3


@pytest.mark.slow
def test_a_gpu_that_rounds_products_is_no_mistake_of_the_derivatives_and_hides_none():
    with products_of_a_gpu():
        assert not wrong(check(fnn.serial(dense(3), fnn.tanh, dense())))
        assert wrong(check(fnn.serial(bad(dense(3), on("w", lambda d: 1.001 * d)), fnn.tanh, dense()))) == {"0.w"}
