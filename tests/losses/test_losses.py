"""Losses: value and derivative against references, published numbers, extremes, and what raises."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, strategies as st
from scipy import special
from sklearn import metrics

import fnn
from experiments.derivatives.losses import LOSSES, batch
from fnn import losses
from tests.helpers.compare import close, has_hint, normwise, printed

every_loss = pytest.mark.parametrize("case", LOSSES, ids=lambda case: str(case.loss))
every_dense_loss = pytest.mark.parametrize(
    "case", [case for case in LOSSES if case.targets != "labels"], ids=lambda case: str(case.loss)
)
every_sparse_loss = pytest.mark.parametrize(
    "case", [case for case in LOSSES if case.targets == "labels"], ids=lambda case: str(case.loss)
)


# ---- value and derivative


@every_loss
@pytest.mark.parametrize("rows, k", [(5, 3), (4, 1)])
def test_value_equals_the_formula_in_numpy(case, rows, k, x64):
    y, t = batch(case, rows, k)
    value = case.loss(y, t)
    assert value.shape == (rows,)
    close(value, case.value(y, t), rtol=1e-12, atol=1e-14)


@every_loss
def test_no_rows_have_no_losses(case):
    """As a filter may leave behind: no error deep in a reshape."""
    y, t = batch(case, dtype=np.float32)
    assert case.loss(y[:0], t[:0]).shape == (0,) and case.loss.grad(y[:0], t[:0]).shape == (0, *y.shape[1:])


def test_values_equal_those_of_optax(x64):
    z, t = (
        np.random.default_rng(0).normal(0, 3, (6, 4)),
        special.softmax(np.random.default_rng(1).normal(size=(6, 4)), 1),
    )
    z, t, labels = jnp.asarray(z), jnp.asarray(t), jnp.array([0, 1, 2, 3, 0, 1])
    close(losses.softmax_cross_entropy(z, t), optax.softmax_cross_entropy(z, t))
    close(losses.sparse_softmax_cross_entropy(z, labels), optax.softmax_cross_entropy_with_integer_labels(z, labels))
    close(losses.sigmoid_cross_entropy(z, t), optax.sigmoid_binary_cross_entropy(z, t).sum(-1))
    close(losses.squared_error(z, t), optax.squared_error(z, t).sum(-1))
    close(losses.half_squared_error(z, t), optax.l2_loss(z, t).sum(-1))


def test_values_equal_those_of_scikit_learn(x64):
    rng = np.random.default_rng(2)
    p, labels = special.softmax(rng.normal(size=(6, 3)), 1), np.array([0, 1, 2, 2, 1, 0])
    each = [metrics.log_loss([label], [row], labels=[0, 1, 2]) for label, row in zip(labels, p, strict=True)]
    close(losses.sparse_cross_entropy(p, labels), each)
    close(losses.cross_entropy(p, np.eye(3)[labels]), each)
    t = np.array([0, 1, 1, 0, 1, 0])
    each = [metrics.log_loss([label], [[1 - q, q]], labels=[0, 1]) for label, q in zip(t, p[:, 0], strict=True)]
    close(losses.binary_cross_entropy(p[:, :1], t[:, None]), each)
    y, t = rng.normal(size=(2, 6, 3))
    close(losses.mean_squared_error(y, t), [metrics.mean_squared_error(b, a) for a, b in zip(y, t, strict=True)])


@every_loss
def test_the_dtype_of_the_outputs_is_kept(case):
    y, t = batch(case, dtype=np.float32)
    for dtype in ("float16", "bfloat16"):
        outputs = jnp.asarray(y, dtype)
        value, grad = case.loss(outputs, t), case.loss.grad(outputs, t)
        assert value.dtype == grad.dtype == outputs.dtype
        np.testing.assert_allclose(np.asarray(value, np.float64), case.value(y, t), rtol=0.1, atol=0.1)


@pytest.mark.slow
@every_loss
def test_a_row_does_not_depend_on_the_others(case, x64):
    y, t = batch(case)
    close(case.loss(y, t), [case.loss(y[i : i + 1], t[i : i + 1])[0] for i in range(len(y))])
    close(case.loss.grad(y, t), [case.loss.grad(y[i : i + 1], t[i : i + 1])[0] for i in range(len(y))])


@every_loss
def test_a_single_row_works_as_a_batch_of_one(case, x64):
    y, t = batch(case)
    np.testing.assert_array_equal(case.loss(y[0], t[0]), case.loss(y[:1], t[:1]))
    grad = case.loss.grad(y[0], t[0])
    assert grad.shape == y[0].shape
    np.testing.assert_array_equal(grad, case.loss.grad(y[:1], t[:1])[0])


def test_more_than_one_axis_of_outputs_is_summed_in_the_row(x64):
    y, t = np.random.default_rng(0).normal(size=(2, 4, 3, 2))
    close(losses.squared_error(y, t), ((y - t) ** 2).sum((1, 2)))
    close(losses.mean_squared_error(y, t), ((y - t) ** 2).mean((1, 2)))
    close(losses.squared_error.grad(y, t), 2 * (y - t))


# ---- published numbers, float32

EXAMPLE = [0, 1, 0, 0]
WORSE, BETTER = jnp.array([0.1, 0.05, 0.05, 0.8]), jnp.array([0.1, 0.8, 0.05, 0.05])
LOGITS = jnp.array([[4.0, 2.0, 1.0], [0.0, 5.0, 1.0]])


@pytest.mark.parametrize(
    "loss, outputs, targets, published",
    [
        (losses.half_squared_error, WORSE, EXAMPLE, "0.7775"),
        (losses.half_squared_error, BETTER, EXAMPLE, "0.0275"),
        (losses.cross_entropy, WORSE, EXAMPLE, "2.9957323"),
        (losses.cross_entropy, BETTER, EXAMPLE, "0.2231436"),
        (losses.sparse_cross_entropy, WORSE, 1, "2.9957323"),
        (losses.sparse_cross_entropy, BETTER, 1, "0.2231436"),
        (losses.mean_squared_error, jnp.array([1.0, 1.0]), [0.5, 0.8], "0.145"),
        (losses.cross_entropy, jnp.array([0.5, 0.4, 0.1]), [1, 0, 0], "0.6931472"),
        (losses.cross_entropy, jnp.array([0.8, 0.1, 0.1]), [1, 0, 0], "0.22314353"),
        (losses.softmax_cross_entropy, LOGITS, [[1, 0, 0], [0, 1, 0]], "0.16984604 0.02474492"),
        (losses.sparse_softmax_cross_entropy, LOGITS, [0, 1], "0.16984604 0.02474492"),
    ],
    ids=str,
)
def test_published_numbers_in_float32(loss, outputs, targets, published):
    printed(loss(outputs, np.array(targets)), published)


def test_integer_labels_pick_one_column_a_row(x64):
    y = special.softmax(np.random.default_rng(0).normal(size=(5, 10)), 1)
    labels = np.array([2, 5, 7, 3, 4])
    expected = -np.log(y[np.arange(5), labels])
    close(losses.sparse_cross_entropy(y, labels), expected)
    close(losses.cross_entropy(y, np.eye(10, dtype=int)[labels]), expected)


# ---- the derivative of the softmax cross-entropy


@pytest.mark.parametrize("total", [0.0, 0.5, 1.0, 2.0])
def test_softmax_cross_entropy_derivative_for_target_rows_of_any_sum(total, x64):
    z = jnp.asarray(np.random.default_rng(0).normal(size=(4, 3)))
    t = total * jnp.array([[1.0, 0, 0], [0, 1, 0], [0.2, 0.3, 0.5], [0.5, 0.5, 0]])
    by_hand = losses.softmax_cross_entropy.grad(z, t)
    close(by_hand, total * special.softmax(z, 1) - t, atol=1e-15)
    assert normwise(by_hand, jax.jit(jax.grad(lambda z: losses.softmax_cross_entropy(z, t).sum()))(z)) < 1e-12


rows_of_logits = st.lists(st.lists(st.floats(-30, 30), min_size=3, max_size=3), min_size=2, max_size=2)


@given(rows_of_logits, st.floats(-1000, 1000))
def test_a_shift_of_the_logits_changes_no_softmax_cross_entropy(z, shift):
    with jax.enable_x64(True):
        z, t = np.array(z), np.eye(3)[[0, 2]]
        np.testing.assert_allclose(
            losses.softmax_cross_entropy(z + shift, t), losses.softmax_cross_entropy(z, t), atol=1e-11
        )
        np.testing.assert_allclose(losses.softmax_cross_entropy.grad(z, t).sum(-1), 0, atol=1e-14)


@given(rows_of_logits)
def test_losses_on_logits_equal_those_on_probabilities(z):
    with jax.enable_x64(True):
        z, t = np.array(z) / 6, np.eye(3)[[0, 2]]
        y, labels = fnn.softmax(z), np.array([0, 2])
        close(losses.softmax_cross_entropy(z, t), losses.cross_entropy(y, t), rtol=1e-7, atol=2e-7)
        close(losses.sparse_softmax_cross_entropy(z, labels), losses.softmax_cross_entropy(z, t))
        close(losses.sigmoid_cross_entropy(z, t), losses.binary_cross_entropy(fnn.sigmoid(z), t), rtol=1e-7, atol=4e-7)


# ---- extremes


def check_extreme(loss, outputs, targets, value, grad):
    """Value, derivative by hand and by autodiff: finite, and as they should be."""
    y, t = jnp.asarray(outputs), jnp.asarray(targets)
    np.testing.assert_allclose(loss(y, t), value, rtol=1e-6, atol=1e-30)
    np.testing.assert_allclose(loss.grad(y, t), grad, rtol=1e-6, atol=1e-30)
    np.testing.assert_allclose(jax.jit(jax.grad(lambda y: loss(y, t).sum()))(y), grad, rtol=1e-6, atol=1e-30)


def test_logits_of_a_thousand_are_exact():
    z = [[1000.0, -1000.0], [1000.0, -1000.0]]
    check_extreme(losses.softmax_cross_entropy, z, [[1, 0], [0, 1]], [0, 2000], [[0, 0], [1, -1]])
    check_extreme(losses.sparse_softmax_cross_entropy, z, [0, 1], [0, 2000], [[0, 0], [1, -1]])
    check_extreme(losses.sigmoid_cross_entropy, z, [[1, 0], [0, 1]], [0, 2000], [[0, 0], [1, -1]])


def test_a_masked_class_costs_nothing_and_has_no_derivative():
    z = [[1.0, -np.inf, 1.0]]
    half = np.log(2)
    check_extreme(losses.softmax_cross_entropy, z, [[1.0, 0, 0]], [half], [[-0.5, 0, 0.5]])
    check_extreme(losses.sparse_softmax_cross_entropy, z, [0], [half], [[-0.5, 0, 0.5]])


def test_a_masked_label_costs_nothing_and_has_no_derivative():
    check_extreme(losses.sigmoid_cross_entropy, [[0.0, -np.inf]], [[1.0, 0.0]], [np.log(2)], [[-0.5, 0]])


def test_probabilities_of_0_and_1_are_clipped_and_have_no_derivative(x64):
    y, worst = [[0.0, 1.0], [1.0, 0.0]], -np.log(1e-7)
    best = -np.log1p(-1e-7)
    check_extreme(losses.cross_entropy, y, [[1, 0], [1, 0]], [worst, best], np.zeros((2, 2)))
    check_extreme(losses.sparse_cross_entropy, y, [0, 0], [worst, best], np.zeros((2, 2)))
    check_extreme(losses.binary_cross_entropy, y, [[1, 0], [1, 0]], [2 * worst, 2 * best], np.zeros((2, 2)))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_probabilities_of_0_and_1_are_finite_in_smaller_dtypes(dtype):
    y, t = jnp.array([[0.0, 1.0], [1.0, 0.0]], dtype), np.array([[1, 0], [1, 0]])
    for loss, targets in ((losses.cross_entropy, t), (losses.binary_cross_entropy, t)):
        assert np.isfinite(np.asarray(loss(y, targets), np.float32)).all()
        assert np.isfinite(np.asarray(loss.grad(y, targets), np.float32)).all()


def test_the_bounds_of_the_clip_still_have_a_derivative(x64):
    y = jnp.array([[1e-7, 1 - 1e-7]])
    for loss, t in ((losses.cross_entropy, [[0.5, 0.5]]), (losses.binary_cross_entropy, [[0.5, 0.25]])):
        by_hand = loss.grad(y, jnp.array(t))
        assert (by_hand != 0).all()
        assert normwise(by_hand, jax.jit(jax.grad(lambda y, loss=loss, t=t: loss(y, jnp.array(t)).sum()))(y)) < 1e-12


# ---- what raises: shapes and dtypes


def refused(loss, outputs, targets, error=fnn.ShapeError):
    """The message, which value and derivative share."""
    messages = set()
    for function in (loss, loss.grad):
        with pytest.raises(error) as caught:
            function(outputs, targets)
        messages.add(str(caught.value))
    (message,) = messages
    assert message.startswith(f"{loss.name.split('(')[0]}: expected ") and has_hint(message)
    return message


@every_dense_loss
@pytest.mark.parametrize(
    "outputs, targets, hint",
    [
        ((4, 1), (4,), "targets[:, None]"),
        ((4,), (4, 1), "targets[:, 0]"),
        ((4, 3), (4,), "one-hot targets"),
        ((4, 3), (3,), ""),
        ((4, 3), (4, 1), ""),
        ((4, 3), (1, 3), ""),
        ((1, 3), (4, 3), ""),
        ((4, 3), (3, 4), ""),
        ((4, 3), (4, 3, 1), ""),
        ((4, 3), (), ""),
        ((4, 1), (1, 4), ""),
    ],
    ids=str,
)
def test_nothing_broadcasts(case, outputs, targets, hint):
    message = refused(case.loss, jnp.full(outputs, 0.5), jnp.full(targets, 0.5))
    assert str(outputs) in message and str(targets) in message and hint in message


@every_sparse_loss
@pytest.mark.parametrize(
    "outputs, targets, hint",
    [
        ((4, 3), (4, 3), "without 'sparse_'"),
        ((4, 3), (4, 1), "targets[:, 0]"),
        ((4, 3), (3,), ""),
        ((4, 3), (1,), ""),
        ((4, 3), (), ""),
        ((4,), (4,), ""),
        ((2, 4, 3), (2, 3), "per position"),
        ((2, 4, 3), (2,), "per position"),
    ],
    ids=str,
)
def test_sparse_losses_want_one_class_number_a_row(case, outputs, targets, hint):
    message = refused(case.loss, jnp.full(outputs, 0.5), jnp.zeros(targets, int))
    assert str(outputs[:-1]) in message and str(targets) in message and hint in message


@every_sparse_loss
def test_float_labels_raise(case):
    for labels in (jnp.array([0.0, 1.0]), jnp.array([2.5, 0.0]), np.array([True, False])):
        assert "astype('int32')" in refused(case.loss, jnp.full((2, 3), 0.5), labels, TypeError)


@every_loss
def test_outputs_that_are_no_floats_or_no_rows_raise(case):
    t = jnp.zeros(2, int) if case.targets == "labels" else jnp.zeros((2, 3))
    refused(case.loss, jnp.ones((2, 3), int), t, TypeError)
    refused(case.loss, jnp.ones((2, 3), jnp.complex64), t, TypeError)
    refused(case.loss, jnp.asarray(0.5), jnp.asarray(0))


@every_dense_loss
def test_complex_targets_raise(case):
    refused(case.loss, jnp.ones((2, 3)), jnp.ones((2, 3), jnp.complex64), TypeError)


# ---- what raises: values, on the host


@every_sparse_loss
@pytest.mark.parametrize("labels, wrong, row", [([0, -1, 3], -1, 1), ([0, 1, 3], 3, 2), ([7, 1, -1], 7, 0)])
def test_labels_out_of_range_raise_with_row_and_mend(case, labels, wrong, row):
    outputs = jax.ShapeDtypeStruct((3, 3), jnp.float32)
    with pytest.raises(
        ValueError, match=rf"{case.name}: expected class numbers from 0 to 2, got {wrong} in row {row}\. [A-Z]"
    ):
        case.loss.check(outputs, np.array(labels))
    case.loss.check(outputs, np.array([0, 1, 2]))


@pytest.mark.parametrize(
    "case", [c for c in LOSSES if c.targets in ("distributions", "probabilities")], ids=lambda case: str(case.loss)
)
@pytest.mark.parametrize("wrong, row", [(-0.25, 1), (1.5, 2), (2.0, 0)])
def test_targets_that_are_no_probabilities_raise_with_row_and_mend(case, wrong, row):
    outputs, t = jax.ShapeDtypeStruct((3, 2), jnp.float32), np.array([[0, 1.0], [0.5, 0.5], [1.0, 0.0]])
    case.loss.check(outputs, t)
    t[row, 1] = wrong
    with pytest.raises(
        ValueError, match=rf"{case.name}: expected targets in \[0, 1\], got {wrong} in row {row}\. [A-Z]"
    ):
        case.loss.check(outputs, t)


def test_regression_losses_take_any_targets():
    assert {c.loss.check for c in LOSSES if c.targets == "reals"} == {None}


# ---- losses of one's own


def quartic(y, t):
    return ((y - t) ** 4).sum(-1)


def test_from_function_takes_the_derivative_by_autodiff(x64):
    y, t = np.random.default_rng(0).normal(size=(2, 4, 3))
    loss = losses.from_function(quartic)
    close(loss(y, t), quartic(y, t))
    close(loss.grad(jnp.asarray(y), t), 4 * (y - t) ** 3, atol=1e-15)
    assert str(loss) == "quartic"


def test_from_function_uses_the_given_derivative_and_name():
    loss = losses.from_function(quartic, lambda y, t: 4 * (y - t) ** 3, name="fourth power")
    np.testing.assert_allclose(loss.grad(jnp.array([[2.0]]), jnp.array([[0.0]])), [[32.0]])
    assert str(loss) == "fourth power"
    marked = losses.from_function(quartic, lambda y, t: jnp.full_like(y, 7.0))
    np.testing.assert_array_equal(marked.grad(jnp.array([[2.0]]), jnp.array([[0.0]])), [[7.0]])


def test_any_callable_is_a_loss_and_anything_else_raises():
    assert losses.as_loss(losses.squared_error) is losses.squared_error
    assert losses.as_loss(quartic)(jnp.array([[2.0]]), jnp.array([[0.0]])) == 16
    with pytest.raises(TypeError, match=r"loss: expected a loss, got str 'mse'\. [A-Z]"):
        losses.as_loss("mse")
