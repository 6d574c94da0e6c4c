"""The checker: right derivatives pass, every planted error is found, and the verdict names the leaf at fault."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from table import ACTIVATIONS, LOSSES, PENALTIES, normwise, numbers

import fnn
from fnn import losses

END = {"distributions": (fnn.softmax,), "probabilities": (fnn.sigmoid,)}  # where a loss wants probabilities
RECTIFIERS = [fnn.prelu(), fnn.rrelu()]
KEY = jax.random.key(1)


def check(net, loss, targets="reals", penalty=None, show=False, **rest):
    """A check on four rows of two inputs, with weights that keep the first layer's outputs 0.3 away from any kink."""
    params, state, out_shape = net.init(jax.random.key(0), (2,))
    x = jnp.array([[1.0, 0.4], [-0.6, 1.3], [0.3, -1.1], [-1.2, -0.5]])
    t = jnp.asarray(numbers(targets, 4, out_shape[0]), x.dtype if targets != "labels" else None)
    return fnn.check_gradients(
        net, loss, jax.tree.map(weights, params), state, x, t, KEY, True, penalty, show=show, **rest
    )


def weights(like):
    size = np.random.default_rng([1845, *like.shape]).uniform(0.4, 0.9, like.shape)
    return jnp.asarray(size * np.resize([1.0, -1.0, 1.0, 1.0, -1.0], like.shape), like.dtype)


def wrong(result):
    return {leaf.leaf for leaf in result.leaves if not leaf.ok}


# ---- right derivatives pass

STACKS = [
    (activation, LOSSES[i % len(LOSSES)]) for i, activation in enumerate([a for _, a in ACTIVATIONS] + RECTIFIERS)
]


@pytest.mark.parametrize("activation, case", STACKS, ids=lambda thing: getattr(thing, "name", str(thing)))
def test_every_activation_and_every_loss_is_right(activation, case, x64):
    net = fnn.serial(fnn.dense(3), activation, fnn.dense(3, bias=False), *END.get(case.outputs, ()))
    result = check(net, case.loss, case.targets)
    assert result.ok, str(result)
    assert max(leaf.autodiff for leaf in result.leaves) < 1e-12
    assert max(leaf.numerical for leaf in result.leaves) < 1e-8


def test_nested_networks_with_weights_and_penalties_are_right(x64):
    block = fnn.residual(fnn.dense(2, bias=False), fnn.prelu())
    net = fnn.serial(fnn.dense(2), fnn.repeat(block, 2), jnp.sin)
    weight, penalty = jnp.array([1.0, 0.0, 2.0, 0.5]), fnn.penalties.l2(0.1)
    result = check(net, losses.squared_error, penalty=penalty, weight=weight, reduction="sum")
    assert result.ok, str(result)
    assert [leaf.leaf for leaf in result.leaves] == ["0.b", "0.w", "1.0.w", "1.1.a", "x"]


def test_float32_is_right_within_its_digits():
    result = check(fnn.serial(fnn.dense(3), fnn.tanh, fnn.dense(3)), losses.softmax_cross_entropy, "distributions")
    assert result.ok, str(result)


# ---- planted errors: each rule that was derived by hand is made wrong by a factor, a sign, or dropped

PLANTS = {"factor": lambda d: d * (1 + 1e-6), "sign": lambda d: -d, "dropped": lambda d: 0 * d}


def planted(rules):
    """A factor 1 + 1e-6 in each rule; in the first also a wrong sign and a zero, which are no harder to find."""
    first, *_ = rules
    cases = [*((rule, "factor") for rule in rules), (first, "sign"), (first, "dropped")]
    ids = [f"{getattr(rule, 'name', rule)}-{plant}" for rule, plant in cases]
    return pytest.mark.parametrize("rule, plant", [(rule, PLANTS[plant]) for rule, plant in cases], ids=ids)


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


@planted([a for _, a in ACTIVATIONS] + RECTIFIERS)
def test_a_wrong_derivative_of_an_activation_is_found_and_blamed_on_what_is_before_it(rule, plant, x64):
    result = check(fnn.serial(dense(), bad(rule, dx=plant), dense()), losses.squared_error)
    assert not result.ok
    assert wrong(result) == {"0.w", "x"}


RULES = {  # name: the network with the planted error, the leaves that are wrong
    "prelu da": lambda plant: (fnn.serial(dense(), bad(fnn.prelu(), on("a", plant)), dense()), {"1.a"}),
    "dense dw": lambda plant: (fnn.serial(bad(fnn.dense(3), on("w", plant)), fnn.tanh, dense()), {"0.w"}),
    "dense db": lambda plant: (fnn.serial(bad(fnn.dense(3), on("b", plant)), fnn.tanh, dense()), {"0.b"}),
    "dense dx": lambda plant: (fnn.serial(dense(), fnn.tanh, bad(dense(), dx=plant)), {"0.w", "x"}),
    "dense dx of the first layer": lambda plant: (fnn.serial(bad(dense(), dx=plant), fnn.tanh), {"x"}),
    "repeat dw": lambda plant: (fnn.repeat(fnn.serial(bad(dense(), on("w", plant)), fnn.tanh), 2), {"0.w"}),
    "repeat dx": lambda plant: (bad(fnn.repeat(dense(), 2), dx=plant), {"x"}),
    "residual dx": lambda plant: (fnn.serial(dense(), bad(fnn.residual(dense()), dx=plant)), {"0.w", "x"}),
    "residual dw": lambda plant: (fnn.residual(bad(dense(), on("w", plant)), fnn.tanh), {"0.w"}),
    "from_function dx": lambda plant: (fnn.serial(dense(), bad(fnn.from_function(jnp.sin), dx=plant)), {"0.w", "x"}),
}


@planted(RULES)
def test_a_wrong_rule_of_a_layer_is_found_in_its_leaf(rule, plant, x64):
    net, leaves = RULES[rule](plant)
    result = check(net, losses.squared_error)
    assert not result.ok and wrong(result) == leaves


@planted(LOSSES)
def test_a_wrong_derivative_of_a_loss_is_found_in_every_leaf(rule, plant, x64):
    loss = rule.loss._replace(grad=lambda y, t: plant(rule.loss.grad(y, t)))
    result = check(fnn.serial(dense(3), *END.get(rule.outputs, ())), loss, rule.targets)
    assert not result.ok and wrong(result) == {"0.w", "x"}


@planted(PENALTIES)
def test_a_wrong_derivative_of_a_penalty_is_found_in_the_weights(rule, plant, x64):
    penalty = rule.penalty._replace(grad=lambda params: jax.tree.map(plant, rule.penalty.grad(params)))
    result = check(fnn.serial(fnn.dense(2)), losses.squared_error, penalty=penalty)
    assert not result.ok and wrong(result) == {"0.w"}


def forwards(params, caches, dy):
    """The chain rule of three layers taken from the first layer to the last."""
    dparams = []
    for p, cache in zip(params, caches, strict=True):
        dp, dy = dense().backward(p, cache, dy)
        dparams.append(dp)
    return tuple(dparams), dy


def swapped(params, caches, dy):
    dparams, dx = fnn.serial(*[dense()] * 3).backward(params, caches, dy)
    return dparams[::-1], dx


def repeated_from_the_first(params, caches, dy):
    def once(dy, part):
        dp, dx = dense().backward(*part, dy)
        return dx, dp

    dx, dparams = jax.lax.scan(once, dy, (params, caches))
    return dparams, dx


def with_backward(layer, backward):
    return layer._replace(spec="bad", backward=backward)


def one_term(activation, dx):
    layer = fnn.as_layer(activation)
    return fnn.serial(dense(), with_backward(layer, lambda params, x, dy: ((), dx(x, dy))), dense())


def by_softmax(x, dy):
    return fnn.softmax(x) * dy


MISTAKES = {  # name: the network with the mistake, the leaves that are wrong
    "serial from the first layer": (with_backward(fnn.serial(*[dense()] * 3), forwards), {"0.w", "2.w"}),
    "serial in swapped places": (with_backward(fnn.serial(*[dense()] * 3), swapped), {"0.w", "2.w"}),
    "repeat from the first round": (with_backward(fnn.repeat(dense(), 2), repeated_from_the_first), {"w", "x"}),
    "residual without its shortcut": (
        with_backward(fnn.residual(dense()), lambda p, c, dy: fnn.serial(dense()).backward(p, c, dy)),
        {"x"},
    ),
    "dense dx in the wrong rows": (fnn.serial(bad(dense(), dx=lambda d: d[::-1])), {"x"}),
    "dense dw transposed": (fnn.serial(bad(dense(), on("w", jnp.transpose)), fnn.tanh), {"0.w"}),
    "dense dx by w not transposed": (
        fnn.serial(dense(), with_backward(dense(), lambda p, x, dy: ({"w": x.T @ dy}, dy @ p["w"]))),
        {"0.w", "x"},
    ),
    "dense db as a mean over rows": (fnn.serial(bad(fnn.dense(2), on("b", lambda d: d / 4))), {"0.b"}),
    "softmax without its sum": (one_term(fnn.softmax, by_softmax), {"0.w", "x"}),
    "silu without its second term": (one_term(fnn.silu, lambda x, dy: dy * fnn.sigmoid(x)), {"0.w", "x"}),
    "tanh' of the outputs": (one_term(fnn.tanh, lambda x, dy: dy * (1 - x**2)), {"0.w", "x"}),
    "rrelu with its mean slope": (
        fnn.serial(
            dense(),
            with_backward(fnn.rrelu(), lambda p, c, dy: ((), jnp.where(c[0] > 0, dy, 11 / 48 * dy))),
        ),
        {"0.w", "x"},
    ),
}


@pytest.mark.parametrize("net, leaves", MISTAKES.values(), ids=MISTAKES)
def test_a_usual_mistake_is_found(net, leaves, x64):
    result = check(net, losses.squared_error)
    assert not result.ok and wrong(result) == leaves


def test_a_loss_that_forgets_that_target_rows_need_not_sum_to_1_is_found(x64):
    forgetful = losses.softmax_cross_entropy._replace(grad=lambda z, t: fnn.softmax(z) - t)
    assert check(fnn.serial(dense(3)), forgetful, "distributions").ok
    assert not check(fnn.serial(dense(3)), forgetful, "probabilities").ok


def test_an_error_in_both_derivatives_is_found_by_the_differences(x64):
    @jax.custom_jvp
    def square(x):
        return x * x

    square.defjvp(lambda primals, tangents: (square(*primals), 2.001 * primals[0] * tangents[0]))
    result = check(fnn.serial(dense(), square), losses.squared_error)
    assert wrong(result) == {"0.w", "x"}
    assert all(leaf.autodiff < 1e-12 and leaf.numerical > 1e-4 for leaf in result.leaves)


def test_an_error_too_small_for_the_differences_is_found_by_autodiff(x64):
    result = check(fnn.serial(bad(dense(), on("w", lambda d: d * (1 + 1e-10)))), losses.squared_error)
    assert wrong(result) == {"0.w"} and result.leaves[0].numerical < 1e-8


def test_nan_is_wrong(x64):
    result = check(fnn.serial(dense(), bad(fnn.tanh, dx=lambda d: d * jnp.nan)), losses.squared_error)
    assert wrong(result) == {"0.w", "x"} and np.isinf(result.leaves[0].autodiff)


def test_one_wrong_number_in_a_large_leaf_is_found(x64):
    net = fnn.serial(dense(150), fnn.tanh, bad(dense(2), on("w", lambda d: d.at[7, 1].multiply(1.01))))
    result = check(net, losses.squared_error)
    assert result.leaves[1].shape == (150, 2) and wrong(result) == {"2.w"}
    assert check(fnn.serial(dense(150), fnn.tanh, dense(2)), losses.squared_error).ok


# ---- the table, and numerical derivatives alone


def test_the_table_names_leaf_shape_and_verdict(x64, capsys):
    result = check(fnn.serial(bad(fnn.dense(2), on("b", lambda d: -d))), losses.squared_error, show=True)
    printed = capsys.readouterr().out
    assert printed == f"{result}\n"
    head, _, *rows = printed.splitlines()
    assert head.split("  ")[0] == "leaf" and head.endswith("verdict")
    assert [(row.split()[0], row.split()[-1]) for row in rows] == [("0.b", "WRONG"), ("0.w", "right"), ("x", "right")]
    check(fnn.serial(dense()), losses.squared_error)
    assert capsys.readouterr().out == ""


def test_integer_inputs_have_no_derivative_and_are_left_out(x64):
    net = fnn.serial(fnn.dense(2))
    params, state, _ = net.init(jax.random.key(0), (2,))
    t = jnp.ones((2, 2))
    result = fnn.check_gradients(net, losses.squared_error, params, state, [[1, 2], [3, 4]], t, show=False)
    assert result.ok and [leaf.leaf for leaf in result.leaves] == ["0.b", "0.w"]


def test_numerical_gradient_of_order_2_and_6(x64):
    params = {"w": jnp.array([[0.3, -0.7]]), "b": (jnp.array(0.2),)}

    def function(p):
        return (jnp.exp(p["w"]) * jnp.sin(p["b"][0])).sum()

    exact = jax.grad(function)(params)
    assert normwise(fnn.numerical_gradient(function, params), exact) < 1e-11
    assert normwise(fnn.numerical_gradient(function, params, order=2, step=1e-4), exact) < 1e-8
    assert 1e-4 < normwise(fnn.numerical_gradient(function, params, order=2, step=0.1), exact) < 1e-2
    assert normwise(fnn.numerical_gradient(function, params, order=6, step=0.1), exact) < 1e-7


def test_an_order_that_is_none_raises():
    with pytest.raises(ValueError, match=r"order: expected 2 or 6, got 4\. Do choose"):
        fnn.numerical_gradient(jnp.sum, jnp.ones(2), order=4)
