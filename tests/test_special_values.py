"""Every public function of one number at nan, ±inf, the largest, the smallest, -0.0 and a subnormal number.

What is expected is worked out by mathematics: the limit at ±inf, elsewhere the value rounded to the dtype; nan is nan,
but that accuracies count it as wrong. Values, derivatives by hand, and derivatives by autodiff; float32, float64 and
bfloat16. Layers are in `test_special_values_layers.py`.
"""

import contextlib
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn import activations, boxes, losses, penalties, schedules
from fnn.inference import metrics

INF, NAN, LOG2 = math.inf, math.nan, math.log(2)
DTYPES = ["float32", *(pytest.param(name, marks=pytest.mark.slow) for name in ("float64", "bfloat16"))]
INPUTS = ["nan", "inf", "-inf", "largest", "-largest", "smallest", "-0.0", "subnormal"]


class Case(NamedTuple):
    """A function of one number, and what it is at the ends of the line and around 0.

    `expected(m)`, where m is the largest number of the dtype, gives values at (inf, -inf, m, -m, 0) and derivatives at
    (inf, -inf, m, -m, just above 0, 0). A subnormal number may count as 0.
    """

    name: str  # the public name that is covered
    value: Callable[[Any], Any]  # (n,) -> (n,)
    by_hand: Callable[[Any], Any] | None  # (n,) -> (n,)
    expected: Callable[[float], tuple[tuple[float, ...], tuple[float, ...] | None]]
    at_nan: float = NAN
    overflows: bool = False  # whether a derivative near the largest number may be inf: its value has overflowed


def values_of(dtype: str) -> Any:
    """The inputs, in a dtype."""
    info = jnp.finfo(dtype)
    m, tiny = float(info.max), float(info.tiny)
    return jnp.asarray([NAN, INF, -INF, m, -m, tiny, -0.0, tiny / 4], dtype)


# ---- activations: (inf, -inf, m, -m, 0), (inf, -inf, m, -m, above 0, 0)


def activation(name: str, function: Any, expected: Any) -> Case:
    return Case(name, function, function.derivative, expected)


def layer(name: str, made: Any, params: Any, expected: Any) -> Case:
    """A rectifier with a slope of 0.25."""

    def forward(x: Any) -> Any:
        return made.forward(jax.tree.map(lambda a: a.astype(x.dtype), params), (), x[:, None], None, False)

    def by_hand(x: Any) -> Any:
        weights = jax.tree.map(lambda a: a.astype(x.dtype), params)
        return made.backward(weights, forward(x)[2], jnp.ones_like(x[:, None]))[1][:, 0]

    return Case(name, lambda x: forward(x)[0][:, 0], by_hand, expected)


SCALE, ALPHA = 1.0507009873554805, 1.6732632423543772
QUARTER = lambda m: ((INF, -INF, m, -m / 4, 0), (1, 0.25, 1, 0.25, 1, 0.25))  # noqa: E731
ACTIVATIONS = [
    activation("sigmoid", fnn.sigmoid, lambda m: ((1, 0, 1, 0, 0.5), (0, 0, 0, 0, 0.25, 0.25))),
    activation("tanh", fnn.tanh, lambda m: ((1, -1, 1, -1, 0), (0, 0, 0, 0, 1, 1))),
    activation("softplus", fnn.softplus, lambda m: ((INF, 0, m, 0, LOG2), (1, 0, 1, 0, 0.5, 0.5))),
    activation("silu", fnn.silu, lambda m: ((INF, 0, m, 0, 0), (1, 0, 1, 0, 0.5, 0.5))),
    activation("gelu", fnn.gelu, lambda m: ((INF, 0, m, 0, 0), (1, 0, 1, 0, 0.5, 0.5))),
    activation("relu", fnn.relu, lambda m: ((INF, 0, m, 0, 0), (1, 0, 1, 0, 1, 0))),
    activation("softsign", fnn.softsign, lambda m: ((1, -1, 1, -1, 0), (0, 0, 0, 0, 1, 1))),
    activation("leaky_relu", fnn.leaky_relu(0.25), QUARTER),
    activation("leaky_relu", fnn.leaky_relu(0.0), lambda m: ((INF, 0, m, 0, 0), (1, 0, 1, 0, 1, 0))),
    activation("elu", fnn.elu(0.5), lambda m: ((INF, -0.5, m, -0.5, 0), (1, 0, 1, 0, 1, 0.5))),
    activation(
        "selu",
        fnn.selu,
        lambda m: ((INF, -SCALE * ALPHA, INF, -SCALE * ALPHA, 0), (SCALE, 0, SCALE, 0, SCALE, SCALE * ALPHA)),
    ),
    Case(
        "softmax",
        lambda x: fnn.softmax(jnp.stack([x, jnp.zeros_like(x)], 1))[:, 0],
        lambda x: fnn.softmax.derivative(jnp.stack([x, jnp.zeros_like(x)], 1))[:, 0, 0],
        lambda m: ((1, 0, 1, 0, 0.5), (0, 0, 0, 0, 0.25, 0.25)),
    ),
    layer("prelu", fnn.prelu(), {"a": jnp.full(1, 0.25)}, QUARTER),
    layer("rrelu", fnn.rrelu(0.25, 0.25), (), QUARTER),
]

# ---- losses: the first of a row's outputs varies


def loss(name: str, made: Any, target: Any, expected: Any, others: tuple[float, ...] = (), at_nan: float = NAN) -> Case:
    """A loss of the row (x, *others), with one target for every row."""

    def row(x: Any) -> tuple[Any, Any]:
        y = jnp.concatenate([x[:, None], jnp.tile(jnp.asarray(others, x.dtype), (len(x), 1))], 1)
        t = jnp.asarray(target)
        return y, jnp.broadcast_to(t, (len(x), *t.shape))

    return Case(name, lambda x: made(*row(x)), lambda x: made.grad(*row(x))[:, 0], expected, at_nan)


def edge(name: str, made: Any, expected: Any) -> Case:
    """A loss of the box (0, 0, x, 1) for the unit square."""

    def rows(x: Any) -> tuple[Any, Any]:
        zero, one = jnp.zeros_like(x), jnp.ones_like(x)
        return jnp.stack([zero, zero, x, one], 1), jnp.stack([zero, zero, one, one], 1)

    by_hand = (lambda x: made.grad(*rows(x))[:, 2]) if isinstance(made, fnn.Loss) else None
    return Case(name, lambda x: made(*rows(x)), by_hand, expected, overflows=True)


SQUARED = lambda m: ((INF, INF, INF, INF, 0), (INF, -INF, INF, -INF, 0, 0))  # noqa: E731
HUBER = lambda m: ((INF, INF, m, m, 0), (1, -1, 1, -1, 0, 0))  # noqa: E731
CLASS_1 = lambda m: ((0, INF, 0, m, LOG2), (0, -1, 0, -1, -0.5, -0.5))  # noqa: E731
CLASS_0 = lambda m: ((INF, 0, m, 0, LOG2), (1, 0, 1, 0, 0.5, 0.5))  # noqa: E731
FOCAL_1 = lambda m: ((0, INF, 0, m, LOG2 / 4), (0, -1, 0, -1, *[-(LOG2 + 0.5) / 4] * 2))  # noqa: E731
FOCAL_0 = lambda m: ((INF, 0, m, 0, LOG2 / 4), (1, 0, 1, 0, *[(LOG2 + 0.5) / 4] * 2))  # noqa: E731
MARGIN_1 = lambda m: ((0, INF, 0, m, 1), (0, -1, 0, -1, -1, -1))  # noqa: E731
MARGIN_0 = lambda m: ((INF, 0, m, 0, 1), (1, 0, 1, 0, 1, 1))  # noqa: E731
BEST, WORST = 1e-7, -math.log(1e-7)
WORST_32 = -math.log(float(1 - np.float32(1 - 1e-7)))  # in float32 the upper bound is rounded
CLIPPED_1 = lambda m: ((BEST, WORST, BEST, WORST, WORST), (0,) * 6)  # noqa: E731


def clipped_0(m):
    worst = WORST if m > 1e39 else WORST_32
    return (worst, BEST, worst, BEST, BEST), (0,) * 6


NOTHING = lambda m: ((0,) * 5, (0,) * 6)  # noqa: E731
cross = losses.softmax_cross_entropy
sparse = losses.sparse_softmax_cross_entropy

LOSSES = [
    loss("squared_error", losses.squared_error, [0.0], SQUARED),
    loss(
        "half_squared_error", losses.half_squared_error, [0.0], lambda m: ((INF,) * 4 + (0,), (INF, -INF, m, -m, 0, 0))
    ),
    loss("mean_squared_error", losses.mean_squared_error, [0.0], SQUARED),
    loss("from_function", losses.from_function(lambda y, t: jnp.square(y).sum(-1)), [0.0], SQUARED),
    loss("absolute_error", losses.absolute_error, [0.0], lambda m: ((INF, INF, m, m, 0), (1, -1, 1, -1, 1, 0))),
    loss("huber", losses.huber(), [0.0], HUBER),
    loss("smooth_l1", losses.smooth_l1(), [0.0], HUBER),
    loss(
        "asymmetric",
        losses.asymmetric(2, 0.5),
        [0.0],
        lambda m: ((INF, INF, INF, m / 2, 0), (2, -0.5, 2, -0.5, 2, -0.5)),
    ),
    loss("asymmetric", losses.asymmetric(0, 1), [0.0], lambda m: ((0, INF, 0, m, 0), (0, -1, 0, -1, 0, -1))),
    loss("asymmetric", losses.asymmetric(1, 0), [0.0], lambda m: ((INF, 0, m, 0, 0), (1, 0, 1, 0, 1, 0))),
    loss(
        "quantile",
        losses.quantile(0.25),
        [0.0],
        lambda m: ((INF, INF, 0.75 * m, m / 4, 0), (0.75, -0.25, 0.75, -0.25, 0.75, -0.25)),
    ),
    loss("sigmoid_cross_entropy", losses.sigmoid_cross_entropy, [1.0], CLASS_1),
    loss("sigmoid_cross_entropy", losses.sigmoid_cross_entropy, [0.0], CLASS_0),
    loss("softmax_cross_entropy", cross, [1.0, 0.0], CLASS_1, (0.0,)),
    loss("softmax_cross_entropy", cross, [0.0, 1.0], CLASS_0, (0.0,)),
    loss("sparse_softmax_cross_entropy", sparse, 0, CLASS_1, (0.0,)),
    loss("sparse_softmax_cross_entropy", sparse, 1, CLASS_0, (0.0,)),
    loss("sigmoid_focal", losses.sigmoid_focal(2.0), [1.0], FOCAL_1),
    loss("sigmoid_focal", losses.sigmoid_focal(2.0), [0.0], FOCAL_0),
    loss("sigmoid_focal", losses.sigmoid_focal(0.0), [1.0], CLASS_1),
    loss("softmax_focal", losses.softmax_focal(2.0), [1.0, 0.0], FOCAL_1, (0.0,)),
    loss("softmax_focal", losses.softmax_focal(2.0), [0.0, 1.0], FOCAL_0, (0.0,)),
    loss("softmax_focal", losses.softmax_focal(0.0), [1.0, 0.0], CLASS_1, (0.0,)),
    loss("sparse_softmax_focal", losses.sparse_softmax_focal(2.0), 0, FOCAL_1, (0.0,)),
    loss("hinge", losses.hinge, [1.0], MARGIN_1),
    loss("hinge", losses.hinge, [0.0], MARGIN_0),
    loss("multiclass_hinge", losses.multiclass_hinge, [1.0, 0.0], MARGIN_1, (0.0,)),
    loss("multiclass_hinge", losses.multiclass_hinge, [0.0, 1.0], MARGIN_0, (0.0,)),
    loss("sparse_multiclass_hinge", losses.sparse_multiclass_hinge, 0, MARGIN_1, (0.0,)),
    loss("sparse_multiclass_hinge", losses.sparse_multiclass_hinge, 1, MARGIN_0, (0.0,)),
    loss("binary_cross_entropy", losses.binary_cross_entropy, [1.0], CLIPPED_1),
    loss("binary_cross_entropy", losses.binary_cross_entropy, [0.0], clipped_0),
    loss("cross_entropy", losses.cross_entropy, [1.0, 0.0], CLIPPED_1, (0.5,)),
    loss("sparse_cross_entropy", losses.sparse_cross_entropy, 0, CLIPPED_1, (0.5,)),
    loss("sparse_cross_entropy", losses.sparse_cross_entropy, 1, lambda m: ((LOG2,) * 5, (0,) * 6), (0.5,)),
    loss(
        "smoothed",
        losses.smoothed(sparse, 0.5),  # targets 0.75 and 0.25
        0,
        lambda m: ((INF, INF, m / 4, 0.75 * m, LOG2), (0.25, -0.75, 0.25, -0.75, -0.25, -0.25)),
        (0.0,),
    ),
    loss(
        "class_weighted",
        losses.class_weighted(sparse, (0.5, 0.0)),
        0,
        lambda m: ((0, INF, 0, m / 2, LOG2 / 2), (0, -0.5, 0, -0.5, -0.25, -0.25)),
        (0.0,),
    ),
    loss("class_weighted", losses.class_weighted(sparse, (0.5, 0.0)), 1, NOTHING, (0.0,), 0.0),
    loss("weighted_sum", losses.weighted_sum((1.0, losses.huber()), (0.0, losses.squared_error)), [0.0], HUBER),
    loss("weighted_sum", losses.weighted_sum((jnp.float32(1), losses.huber()), (jnp.float32(0), cross)), [0.0], HUBER),
    loss("masked", losses.masked(losses.huber()), [0.0], HUBER),
    # a line has the IoU 0 and no derivative; above 0 I = x and U = 1; beyond x = 1 the IoU is 1/x
    edge("iou", boxes.iou, lambda m: ((0,) * 5, (0, 0, 0, 0, 1, 0))),
    edge("iou_loss", losses.iou_loss, lambda m: ((1,) * 5, (0, 0, 0, 0, -1, 0))),
    edge("giou_loss", losses.giou_loss, lambda m: ((1,) * 5, (0, 0, 0, 0, -1, 0))),
    # centres apart by (x-1)/2, diagonal² of C: x² + 1, and 2 for x below 1; a corner at infinity has the derivative 0
    edge(
        "diou_loss",
        losses.diou_loss,
        lambda m: ((1.25, INF, 1.25, INF, 1.125), (0, 0, 0, -m / 4, -1.25, -0.25)),
    ),
    # v = 4/π² (π/4 - atan x)² = 1/4 at 0 and at inf, with α = 1/5; dv = -2/π above 0
    edge(
        "ciou_loss",
        losses.ciou_loss(),
        lambda m: ((1.3, INF, 1.3, INF, 1.175), (0, 0, 0, -m / 4, -1.25 - 0.4 / math.pi, -0.25)),
    ),
]

# ---- metrics, penalties, schedules


def metric(name: str, function: Any, target: Any, others: tuple[float, ...], expected: tuple[float, ...]) -> Case:
    return loss(name, fnn.Loss(name, function, None), target, lambda m: (expected, None), others, 0.0)._replace(
        by_hand=None
    )


def penalty(name: str, made: Any, expected: Any) -> Case:
    return Case(name, jax.vmap(lambda x: made({"w": x[None]})), lambda x: made.grad({"w": x})["w"], expected)


METRICS = [
    metric("accuracy", fnn.accuracy, 0, (0.0,), (1, 0, 1, 0, 1)),
    metric("accuracy", fnn.accuracy, [0.0, 1.0], (0.5,), (0, 1, 0, 1, 1)),
    metric("binary_accuracy", fnn.binary_accuracy(0.5), [1.0], (), (1, 0, 1, 0, 0)),
    metric("binary_accuracy", fnn.binary_accuracy(0.5), [0.0], (), (0, 1, 0, 1, 1)),
]
PENALTIES = [
    penalty("l2", fnn.penalties.l2(1.0), SQUARED),
    penalty("l1", fnn.penalties.l1(0.5), lambda m: ((INF, INF, m / 2, m / 2, 0), (0.5, -0.5, 0.5, -0.5, 0.5, 0))),
    penalty(
        "elastic_net",
        fnn.penalties.elastic_net(0.5, 1.0),
        lambda m: ((INF, INF, INF, INF, 0), (INF, -INF, INF, -INF, 0.5, 0)),
    ),
    Case(
        "soft_threshold",
        lambda x: fnn.penalties.soft_threshold(x, 1.0),
        None,
        lambda m: ((INF, -INF, m, -m, 0), (1, 1, 1, 1, 0, 0)),
    ),
]
SCHEDULES = {  # at inf and the largest number; at 0
    "exponential_decay": (schedules.exponential_decay(0.5, 10, 0.9), 0.0, 0.5),
    "piecewise_constant": (schedules.piecewise_constant([1, 2], [0.1, 0.2, 0.3]), 0.3, 0.1),
    "linear_decay": (schedules.linear_decay(0.5, 0.25, 10), 0.25, 0.5),
    "cosine_decay": (schedules.cosine_decay(0.5, 10, 0.25), 0.25, 0.5),
    "warm_up": (schedules.warm_up(schedules.cosine_decay(0.5, 10, 0.25), 10, 0.125), 0.25, 0.125),
}
CASES = [*ACTIVATIONS, *LOSSES, *METRICS, *PENALTIES]


# ---- the table is whole

HELPERS = (
    "fnn.arguments",
    "fnn.activations.limits",
    "fnn.data.arrays",
    "fnn.compilation.programs",
    "fnn.data.streams",
    "fnn.inference.prediction",
)  # modules of them
NOT_OF_NUMBERS = {
    activations: {"elementwise", "as_floats"},
    losses: {"as_loss", "joint"},  # whose outputs are several
    boxes: {"dense_rows", "make_loss"},
    metrics: set(vars(metrics)) - {"accuracy", "binary_accuracy"},  # tests/inference/metrics/test_edges.py
    penalties: {"proximal_l1", "fista", "fista_solution", "check_proximal", "map_weights", "weight_mask"},
    schedules: {"as_schedule"},
}


@pytest.mark.parametrize("module", NOT_OF_NUMBERS, ids=lambda module: module.__name__.split(".")[-1])
def test_every_public_name_is_in_the_table(module):
    covered = {case.name for case in CASES} | set(SCHEDULES)
    names = {
        name
        for name, thing in vars(module).items()
        if not name.startswith("_")
        and thing is not fnn.factory
        and not (getattr(thing, "__module__", None) or "").startswith(HELPERS)
        and (
            isinstance(thing, (fnn.Activation, fnn.Loss))
            or (callable(thing) and getattr(thing, "__module__", "").startswith("fnn.") and not isinstance(thing, type))
        )
    }
    assert names & covered, "nothing found: the search is broken"
    assert names - NOT_OF_NUMBERS[module] <= covered, (
        f"without a row: {sorted(names - NOT_OF_NUMBERS[module] - covered)}"
    )


# ---- and right


def precision(dtype: str) -> Any:
    return jax.enable_x64(True) if dtype == "float64" else contextlib.nullcontext()


def agree(case: Case, what: str, got: Any, ends: Any, around: tuple[float, float], dtype: str) -> None:
    """`around`: what is expected just above 0, and at 0; a subnormal number may be either."""
    assert str(got.dtype) == dtype, what
    got, eps = np.array(got, np.float64), float(jnp.finfo(dtype).eps)
    with np.errstate(over="ignore"):
        expected = np.array([case.at_nan, *ends, *around, around[1]]).astype(jnp.dtype(dtype)).astype(np.float64)
    if case.overflows:
        huge = float(jnp.finfo(dtype).max) / 8
        got, expected = (np.where(np.abs(a) > huge, np.copysign(INF, a), a) for a in (got, expected))
    either = np.isclose(got[-1], expected[5], rtol=8 * eps, atol=8 * eps)
    expected[-1] = expected[5] if either else expected[-1]
    wrong = [
        f"{what} at {x}: {a:.6g} for {b:.6g}"
        for x, a, b in zip(INPUTS, got, expected, strict=True)
        if not np.isclose(a, b, rtol=8 * eps, atol=max(8 * eps, 2e-7), equal_nan=True)
    ]
    assert not wrong, wrong


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_special_values(case, dtype):
    with precision(dtype):
        x = values_of(dtype)
        values, slopes = case.expected(float(jnp.finfo(dtype).max))
        agree(case, "value", case.value(x), values[:4], (values[4], values[4]), dtype)
        if slopes is None:
            return
        if case.by_hand is not None:
            agree(case, "by hand", case.by_hand(x), slopes[:4], slopes[4:], dtype)
        by_autodiff = jax.grad(lambda x: case.value(x).sum())(x)
        agree(case, "by autodiff", by_autodiff, slopes[:4], slopes[4:], dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_at_special_steps(name, dtype):
    schedule, last, first = SCHEDULES[name]
    with precision(dtype):
        info = np.finfo(dtype)
        for step, expected in [(NAN, NAN), (INF, last), (info.max, last)] + [(s, first) for s in (info.tiny, -0.0)]:
            np.testing.assert_allclose(
                schedule(jnp.asarray(step, dtype)), expected, rtol=1e-6, atol=1e-30, err_msg=step
            )
        for step in (-INF, -float(info.max)):
            with pytest.raises(ValueError, match="schedule: expected a step of at least 0"):
                schedule(step)
