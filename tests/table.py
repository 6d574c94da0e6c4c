"""One table of all activations, layers, losses and penalties: how each is made, what it works on, what it must give.

The references are independent of fnn: the textbook formula in 60-digit decimals, or NumPy and SciPy in float64.
"""

import math
from collections.abc import Callable
from decimal import Decimal, localcontext
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special

import fnn

# ---- numbers that every activation must get right, and how to compare them

POINTS = [0.0] + [s * x for x in (1e-8, 1e-3, 0.5, 1.0, 1.5, 5.0, 20.0, 50.0, 1000.0) for s in (-1.0, 1.0)]


def close(got: Any, expected: Any, rtol: float = 1e-12, atol: float = 1e-300) -> None:
    """Every element within `rtol` of its own size."""
    np.testing.assert_allclose(np.asarray(got), np.asarray(expected), rtol=rtol, atol=atol)


def printed(got: Any, published: str) -> None:
    """Float32 numbers within 2e-7 relative of the published ones, or one unit of their last printed digit."""
    got = np.asarray(got)
    assert got.dtype == np.float32
    for number, text in zip(got.ravel(), published.split(), strict=True):
        unit = 10.0 ** Decimal(text).as_tuple().exponent if "." in text else 0.0
        assert number == float(text) or abs(number - float(text)) <= max(2e-7 * abs(float(text)), unit), (
            number,
            text,
        )


def normwise(got: Any, expected: Any) -> float:
    """Largest difference over largest value, the worst leaf of a pytree."""

    def leaf(a: Any, b: Any) -> float:
        a, b = np.asarray(a), np.asarray(b)
        assert a.shape == b.shape and a.dtype == b.dtype, (a.shape, b.shape, a.dtype, b.dtype)
        return float(np.abs(a - b).max(initial=0) / max(np.abs(b).max(initial=0), np.finfo(np.float64).tiny))

    return max(jax.tree.leaves(jax.tree.map(leaf, got, expected)), default=0.0)


# ---- activations: x -> y and x -> y' of one number; at the kink the derivative is that of the left side


class ActivationCase(NamedTuple):
    name: str  # the public name it covers
    activation: Any
    value: Callable[[float], float]
    derivative: Callable[[float], float]
    at_infinity: tuple[float, float] | None  # values at -inf and inf, where the formula has them


def decimal(formula: Callable[[Decimal], Decimal]) -> Callable[[float], float]:
    """The formula in 60-digit decimals, rounded once."""

    def rounded(x: float) -> float:
        with localcontext(prec=60):
            return float(formula(Decimal(x)))

    return rounded


def _pieces(left: Callable[[Decimal], Any], right: Callable[[Decimal], Any]) -> Callable[[float], float]:
    return decimal(lambda x: Decimal(right(x) if x > 0 else left(x)))


def _logistic(x: Decimal) -> Decimal:
    return 1 / (1 + (-x).exp())


def _normal(x: float) -> float:
    return math.exp(-x * x / 2) / math.sqrt(2 * math.pi)


# selu's constants from the equations that define them: mean 0 and variance 1 are a fixed point
_A, _B = math.erfc(math.sqrt(0.5)) * math.exp(0.5), math.erfc(math.sqrt(2)) * math.exp(2)
SELU_ALPHA = Decimal(math.sqrt(2 / math.pi) / (1 - _A))
SELU_SCALE = Decimal(
    (1 - _A) * math.sqrt(2 * math.pi / (2 * _B + math.pi * _A**2 - 2 * (2 + math.pi) * _A + math.pi + 2))
)

INF = math.inf
ELEMENTWISE = [
    ActivationCase(
        "sigmoid", fnn.sigmoid, decimal(_logistic), decimal(lambda x: _logistic(x) * _logistic(-x)), (0.0, 1.0)
    ),
    ActivationCase(
        "tanh",
        fnn.tanh,
        decimal(lambda x: (x.exp() - (-x).exp()) / (x.exp() + (-x).exp())),
        decimal(lambda x: 4 / (x.exp() + (-x).exp()) ** 2),
        (-1.0, 1.0),
    ),
    ActivationCase("softplus", fnn.softplus, decimal(lambda x: (1 + x.exp()).ln()), decimal(_logistic), (0.0, INF)),
    ActivationCase(
        "silu",
        fnn.silu,
        decimal(lambda x: x * _logistic(x)),
        decimal(lambda x: _logistic(x) + x * _logistic(x) * _logistic(-x)),
        None,
    ),
    ActivationCase("relu", fnn.relu, _pieces(lambda x: 0, lambda x: x), _pieces(lambda x: 0, lambda x: 1), (0.0, INF)),
    ActivationCase(
        "softsign", fnn.softsign, decimal(lambda x: x / (1 + abs(x))), decimal(lambda x: 1 / (1 + abs(x)) ** 2), None
    ),
    ActivationCase(
        "leaky_relu",
        fnn.leaky_relu(),
        _pieces(lambda x: Decimal("0.2") * x, lambda x: x),
        _pieces(lambda x: 0.2, lambda x: 1),
        (-INF, INF),
    ),
    ActivationCase(
        "leaky_relu",
        fnn.leaky_relu(0.01),
        _pieces(lambda x: Decimal("0.01") * x, lambda x: x),
        _pieces(lambda x: 0.01, lambda x: 1),
        (-INF, INF),
    ),
    ActivationCase(
        "elu",
        fnn.elu(),
        _pieces(lambda x: x.exp() - 1, lambda x: x),
        _pieces(lambda x: x.exp(), lambda x: 1),
        (-1.0, INF),
    ),
    ActivationCase(
        "elu",
        fnn.elu(0.7),
        _pieces(lambda x: Decimal("0.7") * (x.exp() - 1), lambda x: x),
        _pieces(lambda x: Decimal("0.7") * x.exp(), lambda x: 1),
        (-0.7, INF),
    ),
    ActivationCase(
        "selu",
        fnn.selu,
        _pieces(lambda x: SELU_SCALE * SELU_ALPHA * (x.exp() - 1), lambda x: SELU_SCALE * x),
        _pieces(lambda x: SELU_SCALE * SELU_ALPHA * x.exp(), lambda x: SELU_SCALE),
        (-float(SELU_SCALE * SELU_ALPHA), INF),
    ),
    ActivationCase(
        "gelu",
        fnn.gelu,
        lambda x: x * special.ndtr(x),
        lambda x: special.ndtr(x) + x * _normal(x),
        None,
    ),
]
ACTIVATIONS = [*((case.name, case.activation) for case in ELEMENTWISE), ("softmax", fnn.softmax)]


# ---- layers


class LayerCase(NamedTuple):
    name: str
    layer: Any
    in_shape: tuple[int, ...]
    integers: bool = True  # whether integer inputs make sense


def _own(x: Any) -> Any:
    return jnp.sin(x) + 0.5 * x


LAYERS = [
    LayerCase("dense", fnn.dense(3), (4,)),
    LayerCase("dense", fnn.dense(2, bias=False), (3,)),
    LayerCase("dense", fnn.dense(7), (5,)),
    LayerCase("prelu", fnn.prelu(), (4,)),
    LayerCase("prelu", fnn.prelu(0.1), (2, 3)),
    LayerCase("rrelu", fnn.rrelu(), (4,)),
    LayerCase("rrelu", fnn.rrelu(0.1, 0.5), (2, 3)),
    LayerCase("serial", fnn.serial(), (3,)),
    LayerCase("serial", fnn.serial(fnn.dense(4), fnn.tanh, fnn.serial(fnn.dense(3), fnn.prelu()), fnn.dense(2)), (3,)),
    LayerCase("repeat", fnn.repeat(fnn.serial(fnn.dense(3), fnn.tanh, fnn.rrelu()), 3), (3,), integers=False),
    LayerCase("residual", fnn.residual(fnn.dense(5), fnn.sigmoid, fnn.dense(3)), (3,), integers=False),
    LayerCase("residual", fnn.repeat(fnn.residual(fnn.dense(3), fnn.elu()), 2), (3,), integers=False),
    LayerCase("from_function", fnn.from_function(_own), (2, 2), integers=False),
    *(LayerCase(name, fnn.as_layer(activation), (4,)) for name, activation in ACTIVATIONS),
]


# ---- losses: what comes in, what goes with it, and the value of each row by NumPy


class LossCase(NamedTuple):
    name: str
    loss: Any
    outputs: str  # "reals", "logits", "probabilities" (each in (0, 1)) or "distributions" (rows that sum to 1)
    targets: str  # "reals", "labels", "probabilities" or "distributions"
    value: Callable[[np.ndarray, np.ndarray], np.ndarray]


def _clip(p: np.ndarray) -> np.ndarray:
    return np.clip(p, 1e-7, 1 - 1e-7)


def _picked(y: np.ndarray, t: np.ndarray) -> np.ndarray:
    return np.array([row[label] for row, label in zip(y, t, strict=True)])


LOSSES = [
    LossCase("squared_error", fnn.losses.squared_error, "reals", "reals", lambda y, t: np.sum((y - t) ** 2, axis=1)),
    LossCase(
        "half_squared_error",
        fnn.losses.half_squared_error,
        "reals",
        "reals",
        lambda y, t: np.sum((y - t) ** 2, axis=1) / 2,
    ),
    LossCase(
        "mean_squared_error",
        fnn.losses.mean_squared_error,
        "reals",
        "reals",
        lambda y, t: np.mean((y - t) ** 2, axis=1),
    ),
    LossCase(
        "cross_entropy",
        fnn.losses.cross_entropy,
        "distributions",
        "distributions",
        lambda y, t: -special.xlogy(t, _clip(y)).sum(1),
    ),
    LossCase(
        "sparse_cross_entropy",
        fnn.losses.sparse_cross_entropy,
        "distributions",
        "labels",
        lambda y, t: -np.log(_clip(_picked(y, t))),
    ),
    LossCase(
        "binary_cross_entropy",
        fnn.losses.binary_cross_entropy,
        "probabilities",
        "probabilities",
        lambda y, t: -(special.xlogy(t, _clip(y)) + special.xlog1py(1 - t, -_clip(y))).sum(1),
    ),
    LossCase(
        "softmax_cross_entropy",
        fnn.losses.softmax_cross_entropy,
        "logits",
        "distributions",
        lambda z, t: -(t * special.log_softmax(z, axis=1)).sum(1),
    ),
    LossCase(
        "sparse_softmax_cross_entropy",
        fnn.losses.sparse_softmax_cross_entropy,
        "logits",
        "labels",
        lambda z, t: -_picked(special.log_softmax(z, axis=1), t),
    ),
    LossCase(
        "sigmoid_cross_entropy",
        fnn.losses.sigmoid_cross_entropy,
        "logits",
        "probabilities",
        lambda z, t: -(t * special.log_expit(z) + (1 - t) * special.log_expit(-z)).sum(1),
    ),
]


def numbers(kind: str, rows: int, k: int, seed: int = 0, dtype: Any = np.float64) -> np.ndarray:
    """Outputs or targets of a kind, well inside their range: `(rows, k)`, labels `(rows,)`."""
    rng = np.random.default_rng([seed, rows, k, len(kind)])
    if kind == "labels":
        return rng.integers(0, k, rows).astype(np.int32)
    if kind == "probabilities":
        return rng.uniform(0.15, 0.85, (rows, k)).astype(dtype)
    if kind == "distributions":
        return special.softmax(0.5 * rng.standard_normal((rows, k)), axis=1).astype(dtype)
    return rng.standard_normal((rows, k)).astype(dtype)


def batch(case: LossCase, rows: int = 5, k: int = 3, dtype: Any = np.float64) -> tuple[np.ndarray, np.ndarray]:
    """Outputs and targets for a loss."""
    return numbers(case.outputs, rows, k, 0, dtype), numbers(case.targets, rows, k, 1, dtype)


# ---- penalties: the value of one array of weights by NumPy, and its derivative


class PenaltyCase(NamedTuple):
    name: str
    penalty: Any
    value: Callable[[np.ndarray], float]
    derivative: Callable[[np.ndarray], np.ndarray]


PENALTIES = [
    PenaltyCase("l2", fnn.penalties.l2(0.3), lambda w: 0.3 * np.sum(w * w), lambda w: 0.6 * w),
    PenaltyCase("l1", fnn.penalties.l1(0.3), lambda w: 0.3 * np.sum(np.abs(w)), lambda w: 0.3 * np.sign(w)),
    PenaltyCase(
        "elastic_net",
        fnn.penalties.elastic_net(0.2, 0.7),
        lambda w: 0.2 * np.sum(np.abs(w)) + 0.7 * np.sum(w * w),
        lambda w: 0.2 * np.sign(w) + 1.4 * w,
    ),
]


# ---- losses that came later, among them those made by a factory


def _absolute(y: np.ndarray, t: np.ndarray) -> np.ndarray:
    return np.abs(y - t)


def _huber(y: np.ndarray, t: np.ndarray, delta: float) -> np.ndarray:
    e = _absolute(y, t)
    return np.where(e <= delta, e * e / 2, delta * (e - delta / 2)).sum(1)


def _two_sided(y: np.ndarray, t: np.ndarray, over: float, under: float) -> np.ndarray:
    return (over * np.maximum(y - t, 0) + under * np.maximum(t - y, 0)).sum(1)


def _focal(z: np.ndarray, gamma: float) -> np.ndarray:
    return special.expit(-z) ** gamma * -special.log_expit(z)


def _softmax_focal(z: np.ndarray, t: np.ndarray, gamma: float, alpha: Any = 1.0) -> np.ndarray:
    p = special.softmax(z, axis=1)
    return -(alpha * t * (1 - p) ** gamma * special.xlogy(1, p)).sum(1)


def _one_hot(z: np.ndarray, t: np.ndarray) -> np.ndarray:
    return np.eye(z.shape[1])[t]


def _crammer_singer(y: np.ndarray, t: np.ndarray) -> np.ndarray:
    """By loops over rows and classes."""
    values = np.zeros(len(y))
    for i, row in enumerate(y):
        for k, score in enumerate(row):
            rivals = np.delete(row, k)
            values[i] += t[i, k] * max([0.0, *(1 + rivals - score)])
    return values


LOSSES += [
    LossCase("absolute_error", fnn.losses.absolute_error, "reals", "reals", lambda y, t: _absolute(y, t).sum(1)),
    LossCase("huber", fnn.losses.huber(), "reals", "reals", lambda y, t: _huber(y, t, 1.0)),
    LossCase("huber", fnn.losses.huber(0.7), "reals", "reals", lambda y, t: _huber(y, t, 0.7)),
    LossCase("smooth_l1", fnn.losses.smooth_l1(), "reals", "reals", lambda y, t: _huber(y, t, 1.0)),
    LossCase("smooth_l1", fnn.losses.smooth_l1(0.7), "reals", "reals", lambda y, t: _huber(y, t, 0.7) / 0.7),
    LossCase("asymmetric", fnn.losses.asymmetric(1, 99), "reals", "reals", lambda y, t: _two_sided(y, t, 1, 99)),
    LossCase("quantile", fnn.losses.quantile(0.9), "reals", "reals", lambda y, t: _two_sided(y, t, 0.1, 0.9)),
    LossCase(
        "hinge",
        fnn.losses.hinge,
        "reals",
        "probabilities",
        lambda y, t: (t * np.maximum(0, 1 - y) + (1 - t) * np.maximum(0, 1 + y)).sum(1),
    ),
    LossCase("multiclass_hinge", fnn.losses.multiclass_hinge, "reals", "distributions", _crammer_singer),
    LossCase(
        "sparse_multiclass_hinge",
        fnn.losses.sparse_multiclass_hinge,
        "reals",
        "labels",
        lambda y, t: _crammer_singer(y, _one_hot(y, t)),
    ),
    LossCase(
        "sigmoid_focal",
        fnn.losses.sigmoid_focal(),
        "logits",
        "probabilities",
        lambda z, t: (t * _focal(z, 2.0) + (1 - t) * _focal(-z, 2.0)).sum(1),
    ),
    LossCase(
        "sigmoid_focal",
        fnn.losses.sigmoid_focal(0.5, 0.25),
        "logits",
        "probabilities",
        lambda z, t: (0.25 * t * _focal(z, 0.5) + 0.75 * (1 - t) * _focal(-z, 0.5)).sum(1),
    ),
    LossCase(
        "softmax_focal",
        fnn.losses.softmax_focal(),
        "logits",
        "distributions",
        lambda z, t: _softmax_focal(z, t, 2.0),
    ),
    LossCase(
        "softmax_focal",
        fnn.losses.softmax_focal(0.5),
        "logits",
        "distributions",
        lambda z, t: _softmax_focal(z, t, 0.5),
    ),
    LossCase(
        "sparse_softmax_focal",
        fnn.losses.sparse_softmax_focal(),
        "logits",
        "labels",
        lambda z, t: _softmax_focal(z, _one_hot(z, t), 2.0),
    ),
]
BOX_LOSSES = [
    ("iou_loss", fnn.losses.iou_loss),
    ("giou_loss", fnn.losses.giou_loss),
    ("diou_loss", fnn.losses.diou_loss),
    ("ciou_loss", fnn.losses.ciou_loss()),
    ("ciou_loss", fnn.losses.ciou_loss(constant_tradeoff=False)),
]
