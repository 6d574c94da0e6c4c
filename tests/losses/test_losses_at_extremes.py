"""What losses make of sure rows, excluded classes, nan, factors of 0, positions, small dtypes of labels and outputs."""

import math
from decimal import Decimal, localcontext

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from experiments.derivatives.losses import LOSSES, batch
from fnn import boxes, losses
from tests.helpers.compare import normwise

every_loss = pytest.mark.parametrize("case", LOSSES, ids=lambda case: str(case.loss))
CLASSES = [case for case in LOSSES if case.loss.targets in ("one-hot", "labels")]
SPARSE = [case.loss for case in LOSSES if case.targets == "labels"]


def autodiff(loss, y, t):
    return jax.jit(jax.grad(lambda y: loss(y, t).sum()))(jnp.asarray(y))


# ---- rows whose class leads


def exact(z, label):
    """`-log p` of the class and its derivative, of logits in long decimals."""
    with localcontext(prec=60):
        powers = [Decimal(float(v)).exp() for v in z]
        total = sum(powers)
        rest = sum(e for k, e in enumerate(powers) if k != label)
        slopes = [(-rest if k == label else e) / total for k, e in enumerate(powers)]
        return math.log1p(float(rest / powers[label])), [float(s) for s in slopes]


@pytest.mark.parametrize("dtype", ["float32", pytest.param("float64", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "name", ["softmax_cross_entropy", "sparse_softmax_cross_entropy", "smoothed", "class_weighted", "softmax_focal"]
)
def test_sure_rows_are_right_to_the_last_digits(name, dtype):
    loss, labels = {
        "softmax_cross_entropy": (losses.softmax_cross_entropy, False),
        "sparse_softmax_cross_entropy": (losses.sparse_softmax_cross_entropy, True),
        "smoothed": (losses.smoothed(losses.softmax_cross_entropy, 0.0), False),
        "class_weighted": (losses.class_weighted(losses.sparse_softmax_cross_entropy, (1, 1, 1)), True),
        "softmax_focal": (losses.softmax_focal(0.0), False),
    }[name]
    margins = [0.5, 5.0, 10.0, 14.0, 18.0, 30.0, 80.0] + ([300.0, 700.0] if dtype == "float64" else [])
    z = [[m, 0.0, -0.75] for m in margins] + [[0.0, m, m / 2] for m in margins] + [[0.0, -1.0, m] for m in margins]
    values, slopes = zip(*(exact(row, 0) for row in z), strict=True)
    with jax.enable_x64(dtype == "float64"):
        y = jnp.asarray(z, dtype)
        t = jnp.zeros(len(z), int) if labels else jnp.eye(3, dtype=dtype)[jnp.zeros(len(z), int)]
        precision = 32 * float(jnp.finfo(dtype).eps)
        least = dict(rtol=precision, atol=float(jnp.finfo(dtype).tiny))
        np.testing.assert_allclose(loss(y, t), values, **least)
        np.testing.assert_allclose(autodiff(loss, y, t), slopes, **least)
        if name != "softmax_focal":  # whose formula has e^(log p) in it: its exponent is rounded
            np.testing.assert_allclose(loss.grad(y, t), slopes, **least)


@pytest.mark.slow
def test_second_derivatives_are_right_where_logits_tie(x64):
    """As at the start of a network of zeros: which of them leads must not matter."""
    z, p = jnp.zeros((1, 3)), np.full(3, 1 / 3)
    for loss, t in [
        (losses.softmax_cross_entropy, jnp.asarray([[0.2, 0.3, 0.5]])),
        (losses.sparse_softmax_cross_entropy, jnp.asarray([1])),
    ]:
        hessian = jax.hessian(lambda z, loss=loss, t=t: loss(z, t).sum())(z).reshape(3, 3)
        np.testing.assert_allclose(hessian, np.diag(p) - np.outer(p, p), atol=1e-15)


# ---- excluded classes, and other factors of 0


@pytest.mark.parametrize(
    "loss, y, t, value, slope",
    [
        (losses.multiclass_hinge, [1.0, -np.inf, 2.0], [1.0, 0, 0], 2, [-1, 0, 1]),
        (losses.sparse_multiclass_hinge, [1.0, -np.inf, 2.0], 0, 2, [-1, 0, 1]),
        (losses.multiclass_hinge, [1.0, -np.inf, -np.inf], [1.0, 0, 0], 0, [0, 0, 0]),
        (losses.multiclass_hinge, [1.0, -np.inf], [0, 1.0], np.inf, [1, -1]),
        (losses.hinge, [-np.inf, 0.5], [0, 1.0], 0.5, [0, -1]),
        (losses.sigmoid_cross_entropy, [-np.inf], [0.0], 0, [0]),
        (losses.sigmoid_focal(2.0), [-np.inf, np.inf], [0.0, 1.0], 0, [0, 0]),
        (losses.sigmoid_focal(0.0), [-np.inf, np.inf], [0.0, 1.0], 0, [0, 0]),
        (losses.softmax_cross_entropy, [0.0, -np.inf, 0.0], [1.0, 0, 0], np.log(2), [-0.5, 0, 0.5]),
        (losses.softmax_focal(2.0), [0.0, -np.inf, -np.inf], [1.0, 0, 0], 0, [0, 0, 0]),
        (losses.softmax_focal(2.0), [0.0, -np.inf], [0, 1.0], np.inf, [1, -1]),
        (losses.sigmoid_focal(2.0, 0.0), [-np.inf], [1.0], 0, [0]),
        (
            losses.smoothed(losses.softmax_cross_entropy, 0.0),
            [0.0, -np.inf, 0.0],
            [1.0, 0, 0],
            np.log(2),
            [-0.5, 0, 0.5],
        ),
        (losses.class_weighted(losses.softmax_cross_entropy, (0, 1)), [-np.inf, 0.0], [1.0, 0.0], 0, [0, 0]),
        (losses.class_weighted(losses.sparse_softmax_cross_entropy, (0, 1)), [-np.inf, 0.0], 0, 0, [0, 0]),
        (losses.class_weighted(losses.sparse_softmax_cross_entropy, (0, 1)), [np.nan, 0.0], 0, 0, [0, 0]),
        (losses.class_weighted(losses.sigmoid_cross_entropy, (1, 0)), [-np.inf], [1.0], 0, [0]),
        (losses.weighted_sum((1.0, losses.absolute_error), (0, losses.squared_error)), [1e30], [0.0], 1e30, [1]),
    ],
    ids=str,
)
def test_a_term_whose_factor_is_0_counts_0(loss, y, t, value, slope):
    y, t = jnp.asarray([y]), jnp.asarray([t])
    np.testing.assert_allclose(loss(y, t), [value], rtol=1e-6)
    np.testing.assert_allclose(loss.grad(y, t), [slope], atol=1e-7)
    np.testing.assert_allclose(autodiff(loss, y, t), [slope], atol=1e-7)


def test_a_traced_factor_of_0_counts_0_and_has_a_derivative_by_the_factor():
    y, t = jnp.asarray([[1e30], [2.0]]), jnp.zeros((2, 1))
    value = lambda c: losses.weighted_sum((1.0, losses.absolute_error), (c, losses.squared_error))(y, t)  # noqa: E731
    np.testing.assert_allclose(jax.jit(value)(0.0), [1e30, 2.0])
    np.testing.assert_allclose(jax.jvp(value, (0.0,), (1.0,))[1], [0.0, 4.0])
    row, label = jnp.asarray([[-np.inf, 0.0]]), jnp.asarray([0])
    weighed = lambda w: losses.class_weighted(losses.sparse_softmax_cross_entropy, (w, 1.0))(row, label)  # noqa: E731
    np.testing.assert_array_equal(jax.jit(weighed)(0.0), [0.0])


# ---- nan


@every_loss
@pytest.mark.parametrize("place", [0, 2])
def test_a_nan_among_the_outputs_of_a_row_is_seen_and_stays_in_its_row(case, place, x64):
    y, t = batch(case)
    y[1, place] = np.nan
    value, by_hand, by_autodiff = case.loss(y, t), case.loss.grad(y, t), autodiff(case.loss, y, t)
    np.testing.assert_array_equal(np.isnan(value), np.arange(len(y)) == 1)
    for slope in (by_hand, by_autodiff):
        assert np.isnan(slope[1, place]) and np.isfinite(np.delete(slope, 1, 0)).all()
    np.testing.assert_array_equal(np.isnan(by_hand), np.isnan(by_autodiff))


@pytest.mark.parametrize(
    "loss", [getattr(losses, f"{n}iou_loss") for n in ("", "g", "d")] + [losses.ciou_loss()], ids=str
)
@pytest.mark.parametrize("corner", [0, *(pytest.param(k, marks=pytest.mark.slow) for k in (1, 2, 3))])
def test_a_nan_corner_is_seen_and_stays_in_its_row(loss, corner):
    t = jnp.asarray([[0.0, 0, 1, 1], [0, 0, 2, 2]])
    y = (t + 0.25).at[0, corner].set(jnp.nan)
    for outputs, targets in ((y, t), (t + 0.25, y)):
        assert np.isnan(loss(outputs, targets)).tolist() == [True, False]
        for slope in (loss.grad(outputs, targets), autodiff(loss, outputs, targets)):
            assert np.isnan(slope).all(1).tolist() == [True, False] and np.isfinite(slope[1]).all()
    assert np.isnan(boxes.iou(y, t)).tolist() == [True, False]


def test_accuracies_count_nan_as_wrong():
    y = jnp.asarray([[np.nan, np.nan], [1.0, np.nan], [1.0, 0.0]])
    for t in (np.zeros(3, int), np.eye(2)[np.zeros(3, int)]):
        assert fnn.accuracy(y, t).tolist() == [0, 0, 1]
    assert fnn.accuracy(y, np.full((3, 2), np.nan)).tolist() == [0, 0, 0]
    for t in (np.zeros((3, 2)), np.ones((3, 2))):
        assert fnn.binary_accuracy(0.5)(jnp.full((3, 2), jnp.nan), t).tolist() == [0, 0, 0]


def test_a_network_of_nan_does_not_pass_for_a_perfect_one():
    net = fnn.serial(fnn.dense(4), fnn.relu, fnn.dense(2))
    params, state, _ = net.init(jax.random.key(0), (3,))
    broken = fnn.Run(({**params[0], "w": params[0]["w"].at[0, 0].set(jnp.nan)}, *params[1:]), state, None, None)
    x = np.ones((4, 3), np.float32)
    assert np.isnan(fnn.predict(net, broken, x)).all()
    assert fnn.evaluate(net, broken, (x, np.zeros(4, int)), {"accuracy": fnn.accuracy}) == {"accuracy": 0.0}


# ---- one distribution per position


@pytest.mark.parametrize("case", CLASSES, ids=lambda case: str(case.loss))
@pytest.mark.parametrize(
    "change", ["as it is", *(pytest.param(name, marks=pytest.mark.slow) for name in ("smoothed", "class_weighted"))]
)
def test_the_loss_of_a_row_is_the_mean_over_its_positions(case, change, x64):
    y, t = batch(case, rows=12)
    loss = {
        "as it is": case.loss,
        "smoothed": losses.smoothed(case.loss, 0.25),
        "class_weighted": losses.class_weighted(case.loss, (0.5, 0.0, 2.0)),
    }[change]
    for shape in ((4, 3), (2, 3, 2)):
        outputs, targets = jnp.asarray(y).reshape(*shape, 3), t.reshape(*shape, *t.shape[1:])
        of_rows = np.asarray(loss(y, t)).reshape(shape[0], -1).mean(1)
        np.testing.assert_allclose(loss(outputs, targets), of_rows, rtol=1e-14)
        by_hand = loss.grad(outputs, targets)
        np.testing.assert_allclose(by_hand, loss.grad(y, t).reshape(outputs.shape) * shape[0] / 12, rtol=1e-14)
        assert normwise(by_hand, autodiff(loss, outputs, targets)) < 1e-12


def test_classes_per_pixel():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 5, (6, 4))
    z, t = jnp.asarray(rng.normal(size=(6, 4, 5)), jnp.float32), np.eye(5, dtype="float32")[labels]
    for loss, targets in ((losses.sparse_softmax_cross_entropy, labels), (losses.softmax_cross_entropy, t)):
        p = np.asarray(fnn.softmax(z))
        right = -np.log((p * t).sum(-1)).mean(1)
        np.testing.assert_allclose(loss(z, targets), right, rtol=1e-5)
    assert fnn.accuracy(t, labels).tolist() == fnn.accuracy(t, t).tolist() == [1.0] * 6
    np.testing.assert_allclose(fnn.accuracy(z, labels), (np.asarray(z).argmax(-1) == labels).mean(1), rtol=1e-6)
    check = losses.sparse_softmax_cross_entropy.check
    with pytest.raises(ValueError, match="expected class numbers from 0 to 3, got 4 in row "):
        check(jax.ShapeDtypeStruct((6, 4, 4), jnp.float32), labels)


# ---- small dtypes: labels of many classes, outputs whose squares overflow


@pytest.mark.parametrize(
    "dtype", ["int8", "uint8", *(pytest.param(d, marks=pytest.mark.slow) for d in ("int16", "uint16"))]
)
@pytest.mark.parametrize("loss", SPARSE, ids=str)
def test_labels_of_a_small_dtype_count_as_the_numbers_that_they_are(loss, dtype):
    y = fnn.softmax(jnp.asarray(np.random.default_rng(0).normal(size=(3, 300)), jnp.float32))
    labels = np.array([5, 44, 100])
    changed = [loss, losses.smoothed(loss, 0.1), losses.class_weighted(loss, tuple(range(1, 301)))]
    for made in changed:
        np.testing.assert_array_equal(made(y, labels.astype(dtype)), made(y, labels))
        np.testing.assert_array_equal(made.grad(y, labels.astype(dtype)), made.grad(y, labels))
    made.check(jax.ShapeDtypeStruct(y.shape, y.dtype), labels.astype(dtype))


def test_accuracy_of_labels_of_a_small_dtype():
    y = jnp.eye(300)[jnp.asarray([5, 261, 200])]  # 261 is 5 in uint8
    assert fnn.accuracy(y, np.array([5, 5, 200], "uint8")).tolist() == [1, 0, 1]


@pytest.mark.parametrize("dtype", ["float16", pytest.param("bfloat16", marks=pytest.mark.slow)])
def test_half_precision_is_summed_in_float32(dtype):
    y, t = jnp.full((1, 4), 300.0, dtype), np.zeros((1, 4))
    n = 4096
    np.testing.assert_allclose(np.float64(losses.mean_squared_error(y / 2, t)), [22500], rtol=0.01)
    np.testing.assert_allclose(np.float64(losses.mean_squared_error(jnp.ones((1, n), dtype), np.zeros((1, n)))), [1])
    np.testing.assert_allclose(np.float64(losses.half_squared_error.grad(y, t)), [[300] * 4])
    np.testing.assert_array_equal(losses.squared_error.grad(y, np.full((1, 4), 1e5)) < 0, [[True] * 4])
    box, right = jnp.asarray([[0, 0, 400, 400]], dtype), jnp.asarray([[200, 0, 600, 400]], dtype)
    np.testing.assert_allclose(np.float64(boxes.iou(box, right)), [1 / 3], rtol=0.01)
    for loss in (losses.iou_loss, losses.giou_loss, losses.diou_loss, losses.ciou_loss()):
        wide = jnp.asarray(box, jnp.float32), jnp.asarray(right, jnp.float32)
        assert loss(box, right).dtype == dtype
        np.testing.assert_allclose(np.float64(loss(box, right)), loss(*wide), rtol=0.01)
        np.testing.assert_allclose(np.float64(loss.grad(box, right)), loss.grad(*wide), rtol=0.01, atol=1e-5)


@pytest.mark.slow
def test_boxes_of_any_size_have_their_iou():
    unit, half = np.array([[0.0, 0, 1, 1]], "float32"), np.array([[0.0, 0, 0.5, 1]], "float32")
    for size in (1e-30, 1e30, 3e38):  # of the last the derivatives are too small for float32
        for loss, value in ((losses.iou_loss, 0.5), (losses.giou_loss, 0.5), (losses.diou_loss, 0.5 + 0.0625 / 2)):
            y, t = jnp.asarray(half * np.float32(size)), unit * np.float32(size)
            np.testing.assert_allclose(loss(y, t), [value], rtol=1e-6)
            by_hand = loss.grad(y, t) * size
            if size < 1e38:
                np.testing.assert_allclose(by_hand, loss.grad(jnp.asarray(half), unit), rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(autodiff(loss, y, t) * size, by_hand, rtol=1e-5, atol=1e-6)
