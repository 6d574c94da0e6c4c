"""Boxes: values against loops over single boxes, derivatives against autodiff and differences, and every degenerate."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, strategies as st

import fnn
from experiments.derivatives.boxes import BOX_LOSSES
from fnn import boxes, losses
from tests.helpers.compare import close, normwise

every_box_loss = pytest.mark.parametrize("name, loss", BOX_LOSSES, ids=lambda thing: str(thing))


def random_boxes(rows, seed=0):
    """Boxes that are not square, most of which meet."""
    rng = np.random.default_rng(seed)
    low = rng.uniform(0, 1, (rows, 2))
    return np.concatenate([low, low + rng.uniform(0.3, 2, (rows, 2)) * [1.0, 0.6]], 1)


# ---- the reference: one pair of boxes in Python's own floats


def reference_iou(y, t):
    x1, y1, x2, y2 = y
    a1, b1, a2, b2 = t
    width, height = min(x2, a2) - max(x1, a1), min(y2, b2) - max(y1, b1)
    shared = width * height if width > 0 and height > 0 else 0.0
    area = max(x2 - x1, 0) * max(y2 - y1, 0)
    return shared, area + (a2 - a1) * (b2 - b1) - shared


def reference(name, y, t):
    y, t = [float(v) for v in y], [float(v) for v in t]
    shared, union = reference_iou(y, t)
    value = 1 - shared / union
    width, height = max(y[2], t[2]) - min(y[0], t[0]), max(y[3], t[3]) - min(y[1], t[1])
    if name == "giou_loss":
        return value + (width * height - union) / (width * height)
    if name in ("diou_loss", "ciou_loss"):
        distance = ((y[0] + y[2] - t[0] - t[2]) / 2) ** 2 + ((y[1] + y[3] - t[1] - t[3]) / 2) ** 2
        value += distance / (width**2 + height**2)
    if name == "ciou_loss":
        v = 4 / math.pi**2 * (math.atan((t[2] - t[0]) / (t[3] - t[1])) - math.atan((y[2] - y[0]) / (y[3] - y[1]))) ** 2
        value += v * v / (shared_part(shared, union) + v)
    return value


def shared_part(shared, union):
    return 1 - shared / union


# ---- value and derivative


@every_box_loss
def test_value_equals_the_formula_box_by_box(name, loss, x64):
    y, t = random_boxes(40), random_boxes(40, seed=1)
    close(loss(y, t), [reference(name, a, b) for a, b in zip(y, t, strict=True)], rtol=1e-12)


def test_iou_equals_the_formula_box_by_box_and_is_symmetric(x64):
    y, t = random_boxes(40), random_boxes(40, seed=1)
    pairs = [reference_iou(a, b) for a, b in zip(y, t, strict=True)]
    close(boxes.iou(y, t), [shared / union for shared, union in pairs], rtol=1e-12)
    close(boxes.iou(t, y), boxes.iou(y, t), rtol=1e-15)


@every_box_loss
def test_derivative_by_hand_equals_differences_of_the_formula(name, loss, x64):
    y, t = random_boxes(40), random_boxes(40, seed=1)
    h, by_differences = 1e-4, np.zeros_like(y)
    for i, j in np.ndindex(*y.shape):
        step = h * np.eye(4)[j]
        for k, weight in ((1, 3 / 4), (2, -3 / 20), (3, 1 / 60)):
            right, left = reference(name, y[i] + k * step, t[i]), reference(name, y[i] - k * step, t[i])
            by_differences[i, j] += weight * (right - left) / h
    flush = np.abs(y - t).min(1) < 4e-4  # a kink within the step
    assert flush.sum() <= 1
    error = normwise(np.asarray(loss.grad(y, t))[~flush], by_differences[~flush])
    if loss is losses.ciou_loss():
        assert error > 1e-3  # the trade-off factor is held constant: not the derivative of the value
    else:
        assert error < 1e-10


def test_the_tradeoff_factor_of_ciou_is_constant_by_default_and_need_not_be(x64):
    y, t = map(jnp.asarray, (random_boxes(10), random_boxes(10, seed=1)))
    fixed, free = losses.ciou_loss(), losses.ciou_loss(constant_tradeoff=False)
    assert fixed is losses.ciou_loss(True) and fixed is not free
    close(fixed(y, t), free(y, t), rtol=1e-15)
    assert normwise(fixed.grad(y, t), free.grad(y, t)) > 1e-3
    # the gradient of the paper, with alpha a number
    size = y[:, 2:] - y[:, :2]
    angle = lambda b: jnp.arctan((b[:, 2] - b[:, 0]) / (b[:, 3] - b[:, 1]))  # noqa: E731
    v = 4 / math.pi**2 * (angle(t) - angle(y)) ** 2
    alpha = v / (1 - boxes.iou(y, t) + v)
    by_width = alpha * -8 / math.pi**2 * (angle(t) - angle(y)) * size[:, 1] / (size**2).sum(-1)
    by_height = alpha * 8 / math.pi**2 * (angle(t) - angle(y)) * size[:, 0] / (size**2).sum(-1)
    extra = jnp.stack([-by_width, -by_height, by_width, by_height], -1)
    assert normwise(fixed.grad(y, t) - losses.diou_loss.grad(y, t), extra) < 1e-12
    assert str(free) == "ciou_loss(constant_tradeoff=False)"


def test_the_term_of_the_shape_is_0_for_boxes_of_one_shape_only(x64):
    t = random_boxes(10, seed=1)
    same_shape = (t * 1.5 + 0.1).astype(t.dtype)
    close(losses.ciou_loss()(same_shape, t), losses.diou_loss(same_shape, t), rtol=1e-12)
    other_shape = same_shape + np.array([0, 0, 5.0, 0])
    assert (losses.ciou_loss()(other_shape, t) > losses.diou_loss(other_shape, t) + 1e-4).all()


def test_known_values():
    y, t = [[0.0, 0, 2, 2]], [[1.0, 0, 3, 2]]
    np.testing.assert_allclose(boxes.iou(y, t), [1 / 3], rtol=1e-6)
    np.testing.assert_allclose(losses.giou_loss(jnp.array(y), t), [2 / 3], rtol=1e-6)
    np.testing.assert_allclose(losses.diou_loss(jnp.array(y), t), [2 / 3 + 1 / 13], rtol=1e-6)
    np.testing.assert_allclose(losses.ciou_loss()(jnp.array(y), t), [2 / 3 + 1 / 13], rtol=1e-6)


# ---- a box with itself


@pytest.mark.parametrize("dtype", ["float32", pytest.param("float16", marks=pytest.mark.slow)])
def test_a_box_with_itself_has_iou_exactly_1_and_loss_and_derivative_exactly_0(dtype):
    rng = np.random.default_rng(0)
    low = rng.uniform(-9, 9, (20_000, 2))
    sides = 10.0 ** rng.uniform(-4, 1, (20_000, 2))
    y = jnp.asarray(np.concatenate([low, low + sides], 1), dtype)

    @jax.jit
    def all_of_them(y, t):
        by_autodiff = [jax.jit(jax.grad(lambda y, loss=loss: loss(y, t).sum()))(y) for _, loss in BOX_LOSSES]
        by_hand = [(loss(y, t), loss.grad(y, t)) for _, loss in BOX_LOSSES]
        return boxes.iou(y, t), by_hand, by_autodiff

    iou, *others = all_of_them(y, y)
    assert (iou == 1).all()
    assert jax.tree.all(jax.tree.map(lambda a: bool((a == 0).all()), others))


corners = st.tuples(*[st.floats(-100, 100, width=32)] * 4)


def box(values):
    x1, y1, x2, y2 = values
    return [min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)]


@pytest.mark.slow
@given(corners, corners)
def test_any_two_boxes_in_float32(a, b):
    y, t = jnp.array([box(a)], jnp.float32), jnp.array([box(b)], jnp.float32)
    assert boxes.iou(y, y) == 1
    assert 0 <= boxes.iou(y, t)[0] <= 1 + 1e-6 and abs(boxes.iou(y, t) - boxes.iou(t, y))[0] <= 1e-6
    values = {str(loss): float(loss(y, t)[0]) for _, loss in BOX_LOSSES}
    assert -1e-6 <= values["iou_loss"] <= values["giou_loss"] + 1e-6 <= 2 + 2e-6
    assert values["iou_loss"] <= values["diou_loss"] + 1e-6 <= values["ciou_loss()"] + 2e-6 <= 3
    assert all(np.isfinite(loss.grad(y, t)).all() for _, loss in BOX_LOSSES)


# ---- every degenerate: finite, and what is said of it

A = [0.0, 0.0, 2.0, 1.0]
PAIRS = {
    "touching at an edge": (A, [2.0, 0.0, 3.0, 1.0]),
    "touching at a corner": (A, [2.0, 1.0, 5.0, 2.0]),
    "coincident": (A, A),
    "contained": (A, [0.5, 0.25, 1.0, 0.75]),
    "containing": (A, [-1.0, -1.0, 4.0, 3.0]),
    "contained and flush": (A, [0.0, 0.0, 1.0, 1.0]),
    "far apart": (A, [1e8, -1e9, 1e8 + 64, -1e9 + 128]),
    "an area beside a point": (A, [3.0, 3.0, 3.0, 3.0]),
    "an area around a point": (A, [1.0, 0.5, 1.0, 0.5]),
    "an area and a line": (A, [0.5, 0.5, 1.5, 0.5]),
    "a point and an area": ([1.0, 0.5, 1.0, 0.5], A),
    "a line and an area": ([0.5, 0.5, 1.5, 0.5], A),
    "two points": ([1.0, 0.5, 1.0, 0.5], [2.0, 0.5, 2.0, 0.5]),
    "one point twice": ([1.0, 0.5, 1.0, 0.5], [1.0, 0.5, 1.0, 0.5]),
    "two lines on a line": ([0.0, 0.5, 2.0, 0.5], [1.0, 0.5, 3.0, 0.5]),
    "one line twice": ([0.0, 0.5, 2.0, 0.5], [0.0, 0.5, 2.0, 0.5]),
    "crossing lines": ([0.0, 0.5, 2.0, 0.5], [1.0, 0.0, 1.0, 3.0]),
    "small": ([0.0, 0.0, 1e-12, 2e-12], [0.0, 0.0, 2e-12, 1e-12]),
    "tiny": ([0.0, 0.0, 1e-25, 2e-25], [0.0, 0.0, 2e-25, 1e-25]),
    "tiny and large": ([0.0, 0.0, 1e-25, 2e-25], A),
    "a negative width": ([2.0, 0.0, 0.0, 1.0], A),
    "two negative sides": ([2.0, 1.0, 0.0, 0.0], A),
    "a negative width far off": ([9.0, 5.0, 7.0, 6.0], A),
}


@every_box_loss
def test_degenerate_boxes_have_finite_values_and_derivatives_as_autodiff_has_them(name, loss):
    y, t = jnp.array(list(PAIRS.values()), jnp.float32).transpose(1, 0, 2)
    value, by_hand = loss(y, t), loss.grad(y, t)
    by_autodiff = jax.jit(jax.grad(lambda y: loss(y, t).sum()))(y)
    for pair, v, hand, auto in zip(PAIRS, *map(np.asarray, (value, by_hand, by_autodiff)), strict=True):
        assert np.isfinite(v) and np.isfinite(hand).all() and 0 <= v <= 3, pair
        np.testing.assert_allclose(hand, auto, rtol=1e-5, atol=1e-6 * np.abs(auto).max(), err_msg=pair)


@pytest.mark.parametrize(
    "pair, iou",
    [
        ("touching at an edge", 0),
        ("touching at a corner", 0),
        ("coincident", 1),
        ("contained", 0.125),
        ("containing", 0.1),
        ("far apart", 0),
        ("an area around a point", 0),
        ("two points", 0),
        ("one point twice", 1),
        ("two lines on a line", 0),
        ("one line twice", 1),
        ("a negative width", 0),
    ],
)
def test_the_iou_of_degenerate_boxes(pair, iou):
    np.testing.assert_allclose(boxes.iou(*(jnp.array([a], jnp.float32) for a in PAIRS[pair])), [iou], rtol=1e-6)


def test_boxes_apart_are_drawn_together_by_all_but_iou_loss():
    y, t = jnp.array([[0.0, 0.0, 2.0, 1.0]]), jnp.array([[5.0, 0.0, 7.0, 1.0]])
    assert not losses.iou_loss.grad(y, t).any()
    for _, loss in BOX_LOSSES[1:]:
        moved = y - 0.5 * loss.grad(y, t)
        assert loss(moved, t)[0] < loss(y, t)[0]


def test_at_flush_edges_the_derivative_is_the_mean_of_both_sides(x64):
    t = jnp.array([[0.0, 0.0, 2.0, 1.0]])
    y = jnp.array([[0.5, 0.25, 2.0, 0.75]])
    for _, loss in BOX_LOSSES:
        left, right = (loss.grad(y + jnp.array([0, 0, s, 0.0]), t)[0, 2] for s in (-1e-9, 1e-9))
        assert abs(left - right) > 0.01
        np.testing.assert_allclose(loss.grad(y, t)[0, 2], (left + right) / 2, rtol=1e-7)


# ---- what comes in


@every_box_loss
def test_a_single_box_works_as_a_batch_of_one(name, loss):
    y, t = (jnp.asarray(random_boxes(1, seed)[0], jnp.float32) for seed in (0, 1))
    assert loss(y, t).shape == (1,) and loss.grad(y, t).shape == (4,)
    np.testing.assert_array_equal(loss.grad(y, t), loss.grad(y[None], t[None])[0])


@every_box_loss
def test_shapes_and_dtypes_that_do_not_fit_raise(name, loss):
    y = jnp.zeros((3, 4))
    for outputs, targets, error, got in [
        (jnp.zeros((3, 5)), jnp.zeros((3, 5)), fnn.ShapeError, r"\(3, 5\)"),
        (jnp.zeros((3, 2, 4)), jnp.zeros((3, 2, 4)), fnn.ShapeError, r"\(3, 2, 4\)"),
        (y, jnp.zeros((1, 4)), fnn.ShapeError, r"\(1, 4\)"),
        (y, jnp.zeros(4), fnn.ShapeError, r"\(4,\)"),
        (y.astype(int), jnp.zeros((3, 4)), TypeError, "int"),
        (y, jnp.zeros((3, 4), jnp.complex64), TypeError, "complex64"),
    ]:
        for function in (loss, loss.grad):
            with pytest.raises(error, match=rf"{name}: expected .* got .*{got}.*\. [A-Z]"):
                function(outputs, targets)


@every_box_loss
def test_target_boxes_with_swapped_corners_raise_on_the_host(name, loss):
    outputs, t = jax.ShapeDtypeStruct((3, 4), jnp.float32), random_boxes(3)
    loss.check(outputs, t)
    loss.check(outputs, np.array([[1, 1, 1, 1], [0, 0, 0, 5], [0, 0, 1, 1]]))
    for wrong in ([2.0, 0, 1, 1], [0, 2.0, 1, 1]):
        t[1] = wrong
        with pytest.raises(ValueError, match=rf"{name}: expected target boxes .* in row 1\. Give two corners"):
            loss.check(outputs, t)


def test_iou_takes_integers_and_wants_boxes():
    np.testing.assert_allclose(boxes.iou(np.array([[0, 0, 2, 2]]), np.array([[1, 0, 3, 2]])), [1 / 3], rtol=1e-6)
    with pytest.raises(fnn.ShapeError, match=r"iou: expected boxes .* got \(2, 3\)\. [A-Z]"):
        boxes.iou(jnp.zeros((2, 3)), jnp.zeros((2, 3)))


def test_the_kind_of_gradient_must_be_said_by_true_or_false():
    with pytest.raises(TypeError, match=r"ciou_loss: expected constant_tradeoff True or False, got 'no'\. [A-Z]"):
        losses.ciou_loss("no")


@pytest.mark.slow
@pytest.mark.parametrize("loss", [losses.ciou_loss()], ids=str)
def test_a_network_learns_boxes_by_hand_and_by_autodiff_alike(loss):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(32, 3)).astype("float32")
    t = random_boxes(32).astype("float32") * 0.1 + [0, 0, 1, 2]
    net = fnn.serial(fnn.dense(4, weight_init=0.1, bias_init=lambda *a: jnp.array([0.2, 0.1, 0.8, 1.1])))
    runs = [
        fnn.fit(net, loss, optax.sgd(0.02), (x, t.astype("float32")), epochs=30, gradient=gradient, progress=False)
        for gradient in (fnn.autodiff, fnn.backprop)
    ]
    by_autodiff, by_hand = (run.history.loss for run in runs)
    np.testing.assert_allclose(by_hand, by_autodiff, rtol=1e-3)
    assert by_hand[-1] < 0.9 * by_hand[0]
