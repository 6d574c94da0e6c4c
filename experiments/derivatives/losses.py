"""Losses: what comes in, what goes with it, and each row's value by the textbook's formula, written out in JAX."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import xlog1py, xlogy
from scipy import special

import fnn
from experiments.derivatives import regimes
from experiments.derivatives.activations import IN_JAX
from experiments.derivatives.record import Kink, Part, Point
from fnn import losses

Formula = Callable[[Any, Any], Any]


class LossKink(NamedTuple):
    """Where, which side's derivative is taken, the outputs there given the targets, and what leads to that side."""

    where: str
    taken: str
    outputs: Callable[[Any], Any]
    toward: Any = None
    step: float = 1e-3


class LossCase(NamedTuple):
    """How a loss is made, and the formula that it must be."""

    name: str
    loss: fnn.Loss
    outputs: str  # "reals", "logits", "probabilities" (each in (0, 1)) or "distributions" (rows that sum to 1)
    targets: str  # "reals", "labels", "probabilities" or "distributions"
    value: Formula
    mistakes: Mapping[str, Formula] = {}  # what its derivative might be taken for
    kinks: tuple[LossKink, ...] = ()


# ---- numbers that go in


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


# ---- formulas


def _clip(p: Any) -> Any:
    return jnp.where(p < 1e-7, 1e-7, jnp.where(p > 1 - 1e-7, 1 - 1e-7, p))


def _one_hot(z: Any, labels: Any) -> Any:
    return jnp.stack([(labels == k) for k in range(z.shape[1])], 1).astype(z.dtype)


def sparse(formula: Formula) -> Formula:
    """A formula for one-hot rows, given class numbers."""
    return lambda z, labels: formula(z, _one_hot(z, labels))


def _log_rest(z: Any) -> Any:
    """`log Σ_{j≠k} e^z_j` for every k."""
    others = ~jnp.eye(z.shape[1], dtype=bool)
    rows = jnp.where(others, z[:, None, :], -jnp.inf)
    top = jax.lax.stop_gradient(rows.max(2, keepdims=True))
    return top[..., 0] + jnp.log(jnp.where(others, jnp.exp(jnp.where(others, rows - top, 0.0)), 0.0).sum(2))


def _log_sum(z: Any) -> Any:
    top = jax.lax.stop_gradient(z.max(1, keepdims=True))
    return top + jnp.log(jnp.exp(z - top).sum(1, keepdims=True))


def _log_p(z: Any) -> Any:
    """`log softmax(z)_k = -log(1 + Σ_{j≠k} e^(z_j - z_k))`: no digit is lost where it is near 0."""
    return -IN_JAX[fnn.softplus](_log_rest(z) - z)


def _softmax_cross_entropy(z: Any, t: Any) -> Any:
    return -jnp.where(t == 0, 0.0, t * _log_p(z)).sum(1)


def _cross_entropy(y: Any, t: Any) -> Any:
    return -xlogy(t, _clip(y)).sum(1)


def _binary_cross_entropy(y: Any, t: Any) -> Any:
    return -(xlogy(t, _clip(y)) + xlog1py(1 - t, -_clip(y))).sum(1)


def _sigmoid_cross_entropy(z: Any, t: Any) -> Any:
    return (t * IN_JAX[fnn.softplus](-z) + (1 - t) * IN_JAX[fnn.softplus](z)).sum(1)


def _absolute(y: Any, t: Any) -> Any:
    return jnp.where(y > t, y - t, t - y)


def _huber(y: Any, t: Any, delta: float) -> Any:
    e = _absolute(y, t)
    return jnp.where(e <= delta, e * e / 2, delta * (e - delta / 2)).sum(1)


def _two_sided(y: Any, t: Any, over: float, under: float) -> Any:
    return jnp.where(y > t, over * (y - t), under * (t - y)).sum(1)


def _hinge(y: Any, t: Any) -> Any:
    return (t * jnp.where(y < 1, 1 - y, 0.0) + (1 - t) * jnp.where(y > -1, 1 + y, 0.0)).sum(1)


def _crammer_singer(y: Any, t: Any) -> Any:
    """By a loop over the classes."""
    value = 0.0
    for k in range(y.shape[1]):
        rivals = [y[:, j] for j in range(y.shape[1]) if j != k]
        if rivals:
            rivals = jnp.stack(rivals)
            worst = jnp.take_along_axis(rivals, rivals.argmax(0)[None], 0)[0]  # the first, if several lead
            value = value + t[:, k] * jnp.where(1 + worst > y[:, k], 1 + worst - y[:, k], 0.0)
    return value * jnp.ones(len(y))


def _focal(z: Any, gamma: float) -> Any:
    softplus = IN_JAX[fnn.softplus]
    return jnp.exp(-gamma * softplus(z)) * softplus(-z)


def _softmax_focal(z: Any, t: Any, gamma: float, alpha: Any = 1.0) -> Any:
    log_rest = -IN_JAX[fnn.softplus](z - _log_rest(z))  # log(1 - p)
    return -(alpha * t * (jnp.exp(gamma * log_rest) if gamma else 1.0) * jnp.where(t == 0, 0.0, _log_p(z))).sum(1)


# ---- what the derivatives might be taken for, and kinks


def _softmax(z: Any) -> Any:
    return jnp.exp(_log_p(z))


def _sigmoid(z: Any) -> Any:
    return IN_JAX[fnn.sigmoid](z)


NUMBERS = {"2 left out": lambda y, t: y - t, "2 too much": lambda y, t: 4 * (y - t), "t left out": lambda y, t: 2 * y}
HALF = {"2 too much": lambda y, t: 2 * (y - t), "t left out": lambda y, t: y, "y left out": lambda y, t: -t}
MEAN = {"not the mean": lambda y, t: 2 * (y - t), "over n - 1": lambda y, t: 2 * (y - t) / (y.shape[1] - 1)}
CROSS = {"t left out": lambda y, t: -1 / y, "the logits' rule": lambda y, t: y - t, "not over y": lambda y, t: -t}
BINARY = {
    "second term dropped": lambda y, t: -t / y,
    "sign of the second": lambda y, t: -t / y - (1 - t) / (1 - y),
    "the logits' rule": lambda y, t: y - t,
}
SOFTMAX = {"t left out": lambda z, t: _softmax(z), "of σ": lambda z, t: _sigmoid(z) - t}
SOFTMAX["targets sum to 2"] = lambda z, t: 2 * _softmax(z) - t
SIGMOID = {"t left out": lambda z, t: _sigmoid(z), "of softmax": lambda z, t: _softmax(z) - t}
SIGN = {"the square's": lambda y, t: y - t, "one side alone": lambda y, t: (y > t).astype(y.dtype)}
CLIPPED = {"not clipped": lambda y, t: y - t, "everywhere clipped": lambda y, t: jnp.sign(y - t)}
COSTS = {"costs swapped": lambda y, t: jnp.where(y > t, 99.0, -1.0), "alike": lambda y, t: jnp.sign(y - t)}
MARGIN = {"margin 0": lambda y, t: jnp.where(y > 0, 1 - t, 0.0) - jnp.where(y < 0, t, 0.0)}
MARGIN["no margin"] = lambda y, t: 1 - 2 * t
FOCAL = {
    "the cross-entropy's": lambda z, t: _sigmoid(z) - t,
    "weighed alone": lambda z, t: _sigmoid(-z) ** 2 * (_sigmoid(z) - t),
}
SOFT_FOCAL = {
    "the cross-entropy's": lambda z, t: _softmax(z) - t,
    "weighed alone": lambda z, t: (1 - _softmax(z)) ** 2 * (_softmax(z) - t),
}
RIVALS = {"all rivals": lambda y, t: 1 - 2 * t, "the class alone": lambda y, t: -t}


def labelled(mistakes: Mapping[str, Formula]) -> dict[str, Formula]:
    """Mistakes for one-hot rows, given class numbers."""
    return {name: sparse(rule) for name, rule in mistakes.items()}


def _at(value: float) -> Callable[[Any], Any]:
    return lambda t: jnp.full(t.shape, value)


MEAN_AT_TARGET = (LossKink("y = t", "0, the mean of both sides", lambda t: t + 0.0),)
LEFT_AT_TARGET = (LossKink("y = t", "the left side's", lambda t: t + 0.0, -1.0),)
AT_BOUNDS = (
    LossKink("y = 1e-7, where the clip begins", "the inner side's", _at(1e-7), 1.0, 1e-10),
    LossKink("y = 1 - 1e-7, where the clip begins", "the inner side's", _at(1 - 1e-7), -1.0, 1e-10),
)
AT_MARGINS = (
    LossKink("y = 1, target 1: the margin is just kept", "the flat side's", _at(1.0), 1.0),
    LossKink("y = -1, target 0: the margin is just kept", "the flat side's", _at(-1.0), -1.0),
)
_FIRST_LEADS = np.array([4.0, 3.0, 2.0, 1.0])
AT_TIES = (
    LossKink("several rivals lead alike", "of the first of them", _at(0.0), _FIRST_LEADS),
    LossKink(
        "the class leads by 1: the margin is just kept",
        "the flat side's",
        lambda t: jnp.eye(4)[0] + 0 * t,
        np.array([9.0, 3.0, 2.0, 1.0]),
    ),
)

LOSSES = [
    LossCase("squared_error", losses.squared_error, "reals", "reals", lambda y, t: ((y - t) ** 2).sum(1), NUMBERS),
    LossCase(
        "half_squared_error", losses.half_squared_error, "reals", "reals", lambda y, t: ((y - t) ** 2).sum(1) / 2, HALF
    ),
    LossCase(
        "mean_squared_error", losses.mean_squared_error, "reals", "reals", lambda y, t: ((y - t) ** 2).mean(1), MEAN
    ),
    LossCase("cross_entropy", losses.cross_entropy, "distributions", "distributions", _cross_entropy, CROSS, AT_BOUNDS),
    LossCase(
        "sparse_cross_entropy",
        losses.sparse_cross_entropy,
        "distributions",
        "labels",
        sparse(_cross_entropy),
        labelled(CROSS),
        AT_BOUNDS,
    ),
    LossCase(
        "binary_cross_entropy",
        losses.binary_cross_entropy,
        "probabilities",
        "probabilities",
        _binary_cross_entropy,
        BINARY,
        AT_BOUNDS,
    ),
    LossCase(
        "softmax_cross_entropy",
        losses.softmax_cross_entropy,
        "logits",
        "distributions",
        _softmax_cross_entropy,
        SOFTMAX,
    ),
    LossCase(
        "sparse_softmax_cross_entropy",
        losses.sparse_softmax_cross_entropy,
        "logits",
        "labels",
        sparse(_softmax_cross_entropy),
        labelled(SOFTMAX),
    ),
    LossCase(
        "sigmoid_cross_entropy",
        losses.sigmoid_cross_entropy,
        "logits",
        "probabilities",
        _sigmoid_cross_entropy,
        SIGMOID,
    ),
    LossCase(
        "absolute_error",
        losses.absolute_error,
        "reals",
        "reals",
        lambda y, t: _absolute(y, t).sum(1),
        SIGN,
        MEAN_AT_TARGET,
    ),
    LossCase("huber", losses.huber(), "reals", "reals", lambda y, t: _huber(y, t, 1.0), CLIPPED),
    LossCase("huber", losses.huber(0.7), "reals", "reals", lambda y, t: _huber(y, t, 0.7), CLIPPED),
    LossCase("smooth_l1", losses.smooth_l1(), "reals", "reals", lambda y, t: _huber(y, t, 1.0), CLIPPED),
    LossCase("smooth_l1", losses.smooth_l1(0.7), "reals", "reals", lambda y, t: _huber(y, t, 0.7) / 0.7, CLIPPED),
    LossCase(
        "asymmetric",
        losses.asymmetric(1, 99),
        "reals",
        "reals",
        lambda y, t: _two_sided(y, t, 1, 99),
        COSTS,
        LEFT_AT_TARGET,
    ),
    LossCase(
        "quantile",
        losses.quantile(0.9),
        "reals",
        "reals",
        lambda y, t: _two_sided(y, t, 0.1, 0.9),
        COSTS,
        LEFT_AT_TARGET,
    ),
    LossCase("hinge", losses.hinge, "reals", "probabilities", _hinge, MARGIN, AT_MARGINS),
    LossCase("multiclass_hinge", losses.multiclass_hinge, "reals", "distributions", _crammer_singer, RIVALS, AT_TIES),
    LossCase(
        "sparse_multiclass_hinge",
        losses.sparse_multiclass_hinge,
        "reals",
        "labels",
        sparse(_crammer_singer),
        labelled(RIVALS),
        AT_TIES,
    ),
    *(
        LossCase(
            "sigmoid_focal",
            losses.sigmoid_focal(gamma),
            "logits",
            "probabilities",
            lambda z, t, gamma=gamma: (t * _focal(z, gamma) + (1 - t) * _focal(-z, gamma)).sum(1),
            FOCAL if gamma else SIGMOID,
        )
        for gamma in (2.0, 0.5, 0.0)
    ),
    LossCase(
        "sigmoid_focal",
        losses.sigmoid_focal(0.5, 0.25),
        "logits",
        "probabilities",
        lambda z, t: (0.25 * t * _focal(z, 0.5) + 0.75 * (1 - t) * _focal(-z, 0.5)).sum(1),
        FOCAL,
    ),
    *(
        LossCase(
            "softmax_focal",
            losses.softmax_focal(gamma),
            "logits",
            "distributions",
            lambda z, t, gamma=gamma: _softmax_focal(z, t, gamma),
            SOFT_FOCAL if gamma else {"t left out": SOFTMAX["t left out"]},
        )
        for gamma in (2.0, 0.5, 0.0)
    ),
    LossCase(
        "sparse_softmax_focal",
        losses.sparse_softmax_focal(),
        "logits",
        "labels",
        sparse(lambda z, t: _softmax_focal(z, t, 2.0)),
        labelled(SOFT_FOCAL),
    ),
]

# ---- losses made of losses


def _quartic(y: Any, t: Any) -> Any:
    return ((y - t) ** 4).sum(1) / 8


WEIGHTS = (1.0, 3.0, 0.5, 2.0)


def _row_weight(t: Any) -> Any:
    return (t * jnp.asarray(WEIGHTS, t.dtype)).sum(1)


# two outputs by name: a two columns wide, b the rest
_JOINT = losses.joint(a=(1.0, losses.squared_error), b=(0.5, losses.half_squared_error))


def _named(y: Any) -> dict[str, Any]:
    return {"a": y[:, :2], "b": y[:, 2:]}


def _joint_grad(y: Any, t: Any) -> Any:
    made = _JOINT.grad(_named(y), _named(t))
    return jnp.concatenate([made["a"], made["b"]], 1)


JOINT = losses.from_function(lambda y, t: _JOINT.value(_named(y), _named(t)), grad=_joint_grad, name="joint")

TRANSFORMED = [
    LossCase(
        "from_function",
        losses.from_function(_quartic, name="from_function, by autodiff"),
        "reals",
        "reals",
        _quartic,
        NUMBERS,
    ),
    LossCase(
        "from_function",
        losses.from_function(_quartic, grad=lambda y, t: (y - t) ** 3 / 2, name="from_function, by hand"),
        "reals",
        "reals",
        _quartic,
        NUMBERS,
    ),
    LossCase(
        "smoothed",
        losses.smoothed(losses.softmax_cross_entropy, 0.1),
        "logits",
        "distributions",
        lambda z, t: _softmax_cross_entropy(z, 0.9 * t + 0.1 / z.shape[1]),
        {"not smoothed": lambda z, t: _softmax(z) - t, "too much": lambda z, t: _softmax(z) - 0.9 * t},
    ),
    LossCase(
        "class_weighted",
        losses.class_weighted(losses.sparse_softmax_cross_entropy, WEIGHTS),
        "logits",
        "labels",
        sparse(lambda z, t: _row_weight(t) * _softmax_cross_entropy(z, t)),
        labelled(
            {
                "not weighed": lambda z, t: _softmax(z) - t,
                "by class": lambda z, t: jnp.asarray(WEIGHTS) * (_softmax(z) - t),
            }
        ),
    ),
    LossCase(
        "weighted_sum",
        losses.weighted_sum((1.0, losses.squared_error), (0.5, losses.absolute_error)),
        "reals",
        "reals",
        lambda y, t: ((y - t) ** 2).sum(1) + 0.5 * _absolute(y, t).sum(1),
        {"the first alone": lambda y, t: 2 * (y - t), "not weighed": lambda y, t: 2 * (y - t) + jnp.sign(y - t)},
        MEAN_AT_TARGET,
    ),
    LossCase(
        "joint",
        JOINT,
        "reals",
        "reals",
        lambda y, t: ((y[:, :2] - t[:, :2]) ** 2).sum(1) + ((y[:, 2:] - t[:, 2:]) ** 2).sum(1) / 4,
        {"the first alone": lambda y, t: 2 * (y - t), "the second alone": lambda y, t: (y - t) / 2},
    ),
    LossCase(
        "masked",
        losses.masked(losses.sparse_softmax_cross_entropy, 0),  # class 0 stands for missing
        "logits",
        "labels",
        lambda z, t: jnp.where(t == 0, 0.0, sparse(_softmax_cross_entropy)(z, t)),
        {"missing rows count": sparse(lambda z, t: _softmax(z) - t)},
    ),
]


# ---- one distribution per position: rows of K numbers as positions of two classes


def per_position(case: LossCase, name: str) -> LossCase:
    """The loss of outputs `(rows, K/2, 2)`: the mean over the positions."""

    def split(formula: Formula) -> Formula:
        return lambda y, t: formula(y.reshape(len(y), -1, 2), t.reshape(len(t), -1, 2))

    def joined(formula: Formula) -> Formula:
        return lambda y, t: formula(y.reshape(-1, 2), t.reshape(-1, 2)).reshape(len(y), -1)

    def rule(formula: Formula) -> Formula:
        return lambda y, t: joined(formula)(y, t) / (y.shape[1] // 2)

    loss = losses.from_function(
        split(case.loss.value), lambda y, t: split(case.loss.grad)(y, t).reshape(y.shape), f"{name}, per position"
    )
    mistakes = {mistake: rule(wrong) for mistake, wrong in case.mistakes.items()}
    mistakes["a sum, not the mean"] = joined(case.loss.grad)
    mistakes["one distribution per row"] = case.loss.grad
    return LossCase(name, loss, case.outputs, case.targets, lambda y, t: joined(case.value)(y, t).mean(1), mistakes)


PER_POSITION = [
    per_position(next(case for case in LOSSES if case.name == name), name)
    for name in ("softmax_cross_entropy", "softmax_focal")
]


# ---- as records

SUMS = (0.0, 0.5, 1.0, 2.0)  # what the targets of a row may add up to


def _point(y: Any, t: Any, mask: Any = None) -> Point:
    mask = np.ones(len(y), bool) if mask is None else mask
    return Point({"y": jnp.asarray(y)}, {"t": jnp.asarray(t), "mask": jnp.asarray(mask)})


def _regimes(case: LossCase) -> dict[str, Callable[[], Point]]:
    y, t = batch(case, regimes.ROWS, regimes.K)
    tables: dict[str, tuple[Any, ...]] = {
        "random": (y, t),
        "masked rows": (y, t, regimes.MASK),
        "constant rows": (np.broadcast_to(y[:1], y.shape), np.broadcast_to(t[:1], t.shape)),
        "one row": (y[:1], t[:1]),
        "4,096 rows": batch(case, regimes.MANY, regimes.K),
    }
    direction = np.sign(regimes.normal(*y.shape, seed=9))
    if case.outputs in ("reals", "logits"):
        tables["zero"] = (0 * y, t)
        tables |= {f"±{s:g}": (s * direction + 0.3 * y, t) for s in (20.0, 50.0, 100.0, 1000.0)}
    else:
        tables["near 0 and 1"] = (np.where(direction > 0, 1 - 1e-3 * y, 1e-3 * y), t)
        tables["beyond the clip"] = (np.where(direction > 0, 1 - 1e-9 * y, y), t)
    if case.outputs == "logits" and case.targets == "distributions":
        tables |= {f"targets that sum to {s:g}": (y, s * t) for s in SUMS}
    return {name: lambda table=table: _point(*table) for name, table in tables.items()}


def _trained(case: LossCase) -> Point:
    """Outputs on iris of a network that was trained with this loss."""
    x, t = map(jnp.asarray, regimes.iris())
    t = t.argmax(1).astype(jnp.int32) if case.targets == "labels" else jnp.pad(t, ((0, 0), (0, 1)))  # a fourth class
    end = {"distributions": (fnn.softmax,), "probabilities": (fnn.sigmoid,)}.get(case.outputs, ())
    net = fnn.serial(fnn.dense(regimes.K), *end)
    params, state = regimes.train(net, case.loss, x, t)
    return _point(net.forward(params, state, x[::30], None, False)[0], t[::30])


def of_loss(case: LossCase) -> Part:
    """The record of a loss."""
    _, t = batch(case, regimes.ROWS, regimes.K)
    like = jnp.asarray(t if t.ndim == 2 else np.zeros((regimes.ROWS, regimes.K)))
    kinks = []
    for kink in case.kinks:
        point = _point(kink.outputs(like), t)
        toward = None if kink.toward is None else {"y": jnp.broadcast_to(kink.toward, like.shape)}
        kinks.append(Kink(kink.where, kink.taken, point, toward, kink.step))

    def rule(grad: Formula) -> Callable[[Any, Any, Any], Any]:
        return lambda at, given, dy: {"y": jnp.asarray(dy)[:, None] * grad(at["y"], given["t"])}

    return Part(
        "loss",
        case.name,
        str(case.loss),
        lambda at, given: case.loss.value(at["y"], given["t"]),
        rule(case.loss.grad),
        lambda at, given: case.value(at["y"], given["t"]),
        {**_regimes(case), "200 steps": lambda: _trained(case)},
        {name: rule(grad) for name, grad in case.mistakes.items()},
        tuple(kinks),
    )


RECORDS = {str(case.loss): partial(of_loss, case) for case in (*LOSSES, *TRANSFORMED, *PER_POSITION)}
