"""Functions of losses: smoothed, class-weighted, summed. Values, derivatives, identity, and what raises."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, strategies as st

import fnn
from experiments.derivatives.losses import LOSSES, batch
from fnn import losses
from tests.helpers.compare import close, normwise

CLASS_LOSSES = [case for case in LOSSES if case.loss.targets]
every_class_loss = pytest.mark.parametrize("case", CLASS_LOSSES, ids=lambda case: str(case.loss))
LABELS, LOGITS = np.array([0, 2, 1, 2]), np.random.default_rng(0).normal(0, 2, (4, 3))


def agrees_with_autodiff(loss, y, t):
    y = jnp.asarray(y)
    return normwise(loss.grad(y, t), jax.jit(jax.grad(lambda y: loss(y, t).sum()))(y)) < 1e-12


def labels_as_rows(case, y, t):
    return np.eye(y.shape[1])[t] if case.targets == "labels" else t


# ---- smoothed


def test_every_loss_whose_targets_are_classes_says_so():
    assert {case.name for case in LOSSES if case.targets != "reals"} == {case.name for case in CLASS_LOSSES}
    kinds = {"labels": "labels", "distributions": "one-hot"}
    for case in CLASS_LOSSES:
        binary = case.name in ("binary_cross_entropy", "sigmoid_cross_entropy", "sigmoid_focal", "hinge")
        assert case.loss.targets == ("binary" if binary else kinds[case.targets])


# every loss on probabilities and every loss on logits; all others say nothing
OUTPUTS = {
    **dict.fromkeys(("cross_entropy", "sparse_cross_entropy", "binary_cross_entropy"), "probabilities"),
    **dict.fromkeys(("softmax_cross_entropy", "sparse_softmax_cross_entropy", "sigmoid_cross_entropy"), "logits"),
    **dict.fromkeys(("softmax_focal", "sparse_softmax_focal", "sigmoid_focal"), "logits"),
}


def test_every_loss_says_whether_it_wants_logits_or_probabilities():
    said = {case.name.split(",")[0]: case.loss.outputs for case in LOSSES}
    assert {name: outputs for name, outputs in said.items() if outputs} == OUTPUTS
    assert all(loss.outputs is None for loss in (losses.squared_error, losses.hinge, losses.huber(1.0)))


def test_losses_made_of_losses_hand_on_what_they_want():
    sparse, error = losses.sparse_softmax_cross_entropy, losses.squared_error
    own = losses.from_function(brier, targets="labels", outputs="probabilities")
    both = losses.weighted_sum((1.0, sparse), (0.5, losses.sparse_softmax_focal(2.0)))
    assert losses.smoothed(sparse, 0.1).outputs == losses.class_weighted(sparse, (1, 2)).outputs == both.outputs
    assert both.outputs == sparse.outputs == "logits" and both.dense.outputs == "logits"
    assert losses.class_weighted(own, (1, 2)).outputs == "probabilities"
    assert losses.weighted_sum((1.0, losses.cross_entropy), (1.0, error)).outputs == "probabilities"
    assert losses.weighted_sum((1.0, losses.cross_entropy), (1.0, losses.softmax_cross_entropy)).outputs is None
    assert losses.from_function(brier).outputs is None
    for loss in (sparse, losses.smoothed(losses.softmax_focal(1.0), 0.1)):
        assert loss.dense is None or loss.dense.outputs == loss.outputs
    with pytest.raises(ValueError, match=r"from_function: expected outputs 'logits' or 'prob.*got 'logit'\. Omit"):
        losses.from_function(brier, outputs="logit")


def test_a_loss_made_by_position_is_what_it_was():
    loss = fnn.Loss("own", brier, None, None, "one-hot", losses.cross_entropy)
    assert (loss.targets, loss.dense, loss.outputs) == ("one-hot", losses.cross_entropy, None)


@every_class_loss
@pytest.mark.parametrize("smoothing", [0.1])
def test_smoothed_is_the_loss_at_smoothed_targets(case, smoothing, x64):
    y, t = batch(case)
    rows = labels_as_rows(case, y, t)
    soft = rows * (1 - smoothing) + smoothing / (2 if case.loss.targets == "binary" else 3)
    loss = losses.smoothed(case.loss, smoothing)
    if case.targets == "labels":  # NumPy's formula takes class numbers: the mean over them, since all are linear in t
        each = [case.value(y, np.full(len(y), k)) for k in range(3)]
        expected = sum(soft[:, k] * each[k] for k in range(3))
    else:
        expected = case.value(y, soft)
    close(loss(y, t), expected, rtol=1e-12, atol=1e-14)
    assert agrees_with_autodiff(loss, y, t)
    assert loss.value(y[0], t[0]).shape == (1,) and loss.grad(y[0], t[0]).shape == (3,)


def test_smoothed_agrees_with_optax(x64):
    soft = optax.smooth_labels(jnp.eye(3)[LABELS], 0.2)
    expected = optax.softmax_cross_entropy(jnp.asarray(LOGITS), soft)
    close(losses.smoothed(losses.softmax_cross_entropy, 0.2)(LOGITS, np.eye(3)[LABELS]), expected)
    close(losses.smoothed(losses.sparse_softmax_cross_entropy, 0.2)(LOGITS, LABELS), expected)


def test_smoothed_binary_targets_are_drawn_to_a_half(x64):
    z, t = np.array([[0.3], [-2.0]]), np.array([[1], [0]])
    loss = losses.smoothed(losses.sigmoid_cross_entropy, 0.1)
    close(loss(z, t), optax.sigmoid_binary_cross_entropy(jnp.asarray(z), jnp.array([[0.95], [0.05]]))[:, 0])


def test_smoothing_keeps_the_check_of_the_targets():
    outputs = jax.ShapeDtypeStruct((2, 3), jnp.float32)
    for loss, wrong in [
        (losses.sparse_softmax_cross_entropy, np.array([0, 3])),
        (losses.softmax_cross_entropy, np.array([[0, 0, 2.0], [1, 0, 0]])),
    ]:
        changed = [losses.smoothed(loss, 0.1), losses.class_weighted(loss, (1, 2, 3)), losses.weighted_sum((1.0, loss))]
        for made in changed:
            with pytest.raises(ValueError, match=rf"{loss.name}: expected .*[.?] [A-Z]"):
                made.check(outputs, wrong)


@pytest.mark.parametrize(
    "wrong, error", [(-0.1, ValueError), (1.1, ValueError), (np.nan, ValueError), ("0.1", TypeError)]
)
def test_a_smoothing_outside_0_to_1_raises(wrong, error):
    with pytest.raises(error, match=r"smoothed: expected a smoothing .* got .*\. [A-Z]"):
        losses.smoothed(losses.softmax_cross_entropy, wrong)


def test_smoothing_what_has_no_classes_raises():
    for loss in (losses.squared_error, losses.giou_loss, lambda y, t: y.sum(-1)):
        with pytest.raises(TypeError, match=r"smoothed: expected a loss whose targets are classes, got .*\. [A-Z]"):
            losses.smoothed(loss, 0.1)
        with pytest.raises(
            TypeError, match=r"class_weighted: expected a loss whose targets are classes, got .*\. [A-Z]"
        ):
            losses.class_weighted(loss, (1, 2))


def brier(y, t):
    return ((y - t) ** 2).sum(-1)


def test_a_loss_of_ones_own_is_smoothed_when_it_says_what_its_targets_are(x64):
    own = losses.from_function(brier, targets="one-hot")
    y, t = fnn.softmax(LOGITS), np.eye(3)[LABELS]
    close(losses.smoothed(own, 0.3)(y, t), brier(y, 0.7 * t + 0.1))
    with pytest.raises(ValueError, match=r"from_function: expected targets 'one-hot', .* got 'classes'\. [A-Z]"):
        losses.from_function(brier, targets="classes")
    with pytest.raises(TypeError, match="smoothed: expected a loss whose targets are classes"):
        losses.smoothed(losses.from_function(brier, targets="labels"), 0.1)


# ---- class-weighted


@every_class_loss
def test_class_weighted_multiplies_each_row_by_the_weight_of_its_class(case, x64):
    binary = case.loss.targets == "binary"
    y, t = batch(case, k=1 if binary else 3)
    rows = np.concatenate([1 - t, t], 1) if binary else labels_as_rows(case, y, t)
    weights = (0.5, 3.0) if binary else (0.5, 3.0, 0.0)
    loss = losses.class_weighted(case.loss, weights)
    close(loss(y, t), (rows @ weights) * case.value(y, t), rtol=1e-12, atol=1e-14)
    assert agrees_with_autodiff(loss, y, t)
    assert loss.value(y[0], t[0]).shape == (1,) and loss.grad(y[0], t[0]).shape == y[0].shape


def test_equal_class_weights_are_a_factor_and_1_changes_nothing(x64):
    plain = losses.sparse_softmax_cross_entropy
    close(losses.class_weighted(plain, (1, 1, 1))(LOGITS, LABELS), plain(LOGITS, LABELS))
    close(losses.class_weighted(plain, [2.5] * 3).grad(LOGITS, LABELS), 2.5 * plain.grad(LOGITS, LABELS))


def test_smoothing_inside_weighs_by_the_true_class_and_outside_by_the_smoothed_one(x64):
    weights, sparse = np.array([1.0, 2.0, 6.0]), losses.sparse_softmax_cross_entropy
    smooth = losses.smoothed(sparse, 0.3)
    inside = losses.class_weighted(smooth, weights)
    outside = losses.smoothed(losses.class_weighted(sparse, weights), 0.3)
    close(inside(LOGITS, LABELS), weights[LABELS] * smooth(LOGITS, LABELS))
    soft = 0.7 * np.eye(3)[LABELS] + 0.1
    close(outside(LOGITS, LABELS), (soft @ weights) * smooth(LOGITS, LABELS))
    assert agrees_with_autodiff(inside, LOGITS, LABELS) and agrees_with_autodiff(outside, LOGITS, LABELS)


@pytest.mark.parametrize(
    "wrong, error",
    [
        ((1, -2), ValueError),
        ((0, 0), ValueError),
        ((1, np.inf), ValueError),
        ((), TypeError),
        (2.0, TypeError),
        ("ab", TypeError),
        (((1, 2), (3, 4)), TypeError),
        ((True, False), TypeError),
    ],
)
def test_wrong_class_weights_raise(wrong, error):
    with pytest.raises(error, match=r"class_weighted: expected .* got .*\. [A-Z]"):
        losses.class_weighted(losses.softmax_cross_entropy, wrong)


def test_class_weights_that_do_not_fit_the_classes_raise():
    y, t = jnp.zeros((2, 3)), jnp.array([0, 1])
    loss = losses.class_weighted(losses.sparse_softmax_cross_entropy, (1, 2))
    for function in (loss, loss.grad):
        expected = r"class_weighted: expected a weight per class, for 3 .* got 2\. [A-Z]"
        with pytest.raises(fnn.ShapeError, match=expected):
            function(y, t)
    loss = losses.class_weighted(losses.sigmoid_cross_entropy, (1, 2))
    with pytest.raises(fnn.ShapeError, match=r"class_weighted: expected one output per row .* got 3\. [A-Z]"):
        loss(y, jnp.zeros((2, 3)))
    with pytest.raises(fnn.ShapeError, match=r"sigmoid_cross_entropy: expected targets of the shape"):
        loss(y, t)


# ---- weighted sums


def test_a_weighted_sum_is_the_sum_of_its_parts(x64):
    y, t = np.random.default_rng(0).normal(size=(2, 5, 3))
    loss = losses.weighted_sum((2.0, losses.squared_error), (0.5, losses.absolute_error), (0, losses.huber()))
    close(loss(y, t), 2 * ((y - t) ** 2).sum(1) + 0.5 * np.abs(y - t).sum(1))
    close(loss.grad(y, t), 4 * (y - t) + 0.5 * np.sign(y - t))
    assert agrees_with_autodiff(loss, y, t) and loss.targets is None


def test_a_weighted_sum_of_class_losses_can_be_smoothed_and_weighted(x64):
    for a, b, t in [
        (losses.softmax_cross_entropy, losses.softmax_focal(), np.eye(3)[LABELS]),
        (losses.sparse_softmax_cross_entropy, losses.sparse_softmax_focal(), LABELS),
    ]:
        both = losses.smoothed(losses.weighted_sum((1.0, a), (0.5, b)), 0.2)
        close(both(LOGITS, t), losses.smoothed(a, 0.2)(LOGITS, t) + 0.5 * losses.smoothed(b, 0.2)(LOGITS, t))
        assert agrees_with_autodiff(losses.class_weighted(both, (1, 2, 3)), LOGITS, t)
    mixed = losses.weighted_sum((1.0, losses.softmax_cross_entropy), (1.0, losses.squared_error))
    with pytest.raises(TypeError, match="smoothed: expected a loss whose targets are classes"):
        losses.smoothed(mixed, 0.1)


def test_a_weighted_sum_takes_functions_and_runs_every_check():
    loss = losses.weighted_sum((1.0, brier), (1.0, losses.softmax_cross_entropy))
    assert loss.name.startswith("weighted_sum((1.0, ") and loss.name.endswith("), (1.0, softmax_cross_entropy))")
    with pytest.raises(ValueError, match="softmax_cross_entropy: expected targets in"):
        loss.check(jax.ShapeDtypeStruct((1, 2), jnp.float32), np.array([[2.0, 0.0]]))
    losses.weighted_sum((1.0, brier)).check(None, np.array([[2.0]]))


@pytest.mark.parametrize(
    "terms, error",
    [
        ((), TypeError),
        ((losses.squared_error,), TypeError),
        (((1.0, losses.squared_error, 2),), TypeError),
        (((-1.0, losses.squared_error),), ValueError),
        (((np.nan, losses.squared_error),), ValueError),
        (((losses.squared_error, 1.0),), TypeError),
        (((1.0, "mse"),), TypeError),
    ],
)
def test_wrong_terms_raise(terms, error):
    with pytest.raises(error, match=r"(weighted_sum|loss): expected .* got .*\. [A-Z]"):
        losses.weighted_sum(*terms)


# ---- one object for equal arguments, and its name

MADE = {
    "smoothed(softmax_cross_entropy, 0.1)": lambda: losses.smoothed(losses.softmax_cross_entropy, 0.1),
    "class_weighted(hinge, (1, 2.5))": lambda: losses.class_weighted(losses.hinge, [1, 2.5]),
    "class_weighted(hinge, (1.0, 2.5))": lambda: losses.class_weighted(losses.hinge, np.array([1, 2.5])),
    "weighted_sum((1.0, squared_error), (0.5, huber(delta=2.0)))": lambda: losses.weighted_sum(
        (1.0, losses.squared_error), (0.5, losses.huber(2.0))
    ),
    "smoothed(class_weighted(sparse_softmax_focal(), (1, 2)), 0.2)": lambda: losses.smoothed(
        losses.class_weighted(losses.sparse_softmax_focal(), (1, 2)), smoothing=0.2
    ),
}


@pytest.mark.parametrize("name", MADE)
def test_equal_arguments_give_one_object_that_prints_as_the_call(name):
    assert MADE[name]() is MADE[name]() and str(MADE[name]()) == name


def test_different_arguments_give_different_objects():
    made = [make() for make in MADE.values()] + [losses.smoothed(losses.softmax_cross_entropy, 0.2)]
    assert all(a is not b for a, b in itertools.combinations(made, 2))


@pytest.mark.parametrize(
    "factory", [losses.huber, losses.quantile, losses.smoothed, losses.sigmoid_focal], ids=lambda f: f.__name__
)
def test_a_factory_that_was_not_called_raises(factory):
    with pytest.raises(TypeError, match=rf"loss: expected a loss, got the factory {factory.__name__}\. Call it"):
        losses.as_loss(factory)
    with pytest.raises(TypeError, match=rf"got the factory {factory.__name__}\. Call it"):
        fnn.fit(fnn.serial(fnn.dense(1)), factory, optax.sgd(0.1), ([[1.0]], [[1.0]]), epochs=1)


# ---- numbers that are traced


TRACED = {
    "smoothed": (lambda s: losses.smoothed(losses.sparse_softmax_cross_entropy, s), (0.1, 0.7)),
    "class_weighted": (lambda s: losses.class_weighted(losses.sparse_softmax_cross_entropy, (1, s, 2.0)), (0.1, 3.0)),
    "weighted_sum": (
        lambda s: losses.weighted_sum((s, losses.sparse_softmax_focal()), (1.0, losses.sparse_softmax_cross_entropy)),
        (0.0, 2.0),
    ),
    "focal": (lambda s: losses.sparse_softmax_focal(s), (0.5, 2.0)),
    "focal alpha": (lambda s: losses.sparse_softmax_focal(2.0, (1.0, s, 2.0)), (0.5, 2.0)),
}


@pytest.mark.parametrize("make, numbers", TRACED.values(), ids=TRACED.keys())
def test_a_traced_number_gives_what_the_number_gives(make, numbers, x64):
    y, mapped = jnp.asarray(LOGITS), jnp.array(numbers)
    value = jax.jit(jax.vmap(lambda s: make(s)(y, LABELS)))(mapped)
    grad = jax.jit(jax.vmap(lambda s: make(s).grad(y, LABELS)))(mapped)
    for i, number in enumerate(numbers):
        close(value[i], make(number)(y, LABELS), rtol=1e-12)
        close(grad[i], make(number).grad(y, LABELS), rtol=1e-12, atol=1e-15)
    assert normwise(value[0], value[1]) > 1e-3


def test_smoothing_is_a_setting_that_compiles_once():
    net, x = fnn.serial(fnn.dense(3)), np.random.default_rng(0).normal(size=(12, 2)).astype("float32")
    fit = functools.partial(
        fnn.fit,
        net,
        lambda s: losses.smoothed(losses.sparse_softmax_cross_entropy, s["smoothing"]),
        optax.sgd(0.5),
        (x, np.arange(12) % 3),
        epochs=20,
        progress=False,
    )
    ends = [fit(settings={"smoothing": s}).history.loss[-1] for s in (0.0, 0.5)]
    plain = fnn.fit(
        net, losses.sparse_softmax_cross_entropy, optax.sgd(0.5), (x, np.arange(12) % 3), epochs=20, progress=False
    )
    np.testing.assert_allclose(ends[0], plain.history.loss[-1], rtol=1e-5)
    assert ends[1] > ends[0]
    with pytest.raises(ValueError, match="smoothed: expected a smoothing"):
        fit(settings={"smoothing": 1.5})


# ---- the dtype of the outputs stays


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("make, numbers", TRACED.values(), ids=TRACED.keys())
def test_the_dtype_of_the_outputs_is_kept(make, numbers, dtype):
    y = jnp.asarray(LOGITS, dtype)
    for number in (numbers[0], jax.ShapeDtypeStruct((), jnp.float32)):
        if isinstance(number, float):
            made = jax.eval_shape(lambda y, s=number: (make(s)(y, LABELS), make(s).grad(y, LABELS)), y)
        else:
            made = jax.eval_shape(lambda y, s: (make(s)(y, LABELS), make(s).grad(y, LABELS)), y, number)
        assert all(a.dtype == y.dtype for a in made)


@given(st.floats(0, 1), st.floats(0, 1))
def test_smoothing_twice_is_smoothing_once_by_more(s, r):
    with jax.enable_x64(True):
        y, loss = jnp.asarray(LOGITS), losses.softmax_cross_entropy
        twice = losses.smoothed(losses.smoothed(loss, s), r)
        once = losses.smoothed(loss, min(1.0, s + r - s * r))
        close(twice(y, np.eye(3)[LABELS]), once(y, np.eye(3)[LABELS]), rtol=1e-12)
