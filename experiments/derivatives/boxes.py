"""Box losses: each against the papers' formulas for one pair of boxes, apart, overlapping, within one another."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import fnn
from experiments.derivatives import regimes
from experiments.derivatives.record import Kink, Part, Point
from fnn import losses

BOX_LOSSES = [
    ("iou_loss", losses.iou_loss),
    ("giou_loss", losses.giou_loss),
    ("diou_loss", losses.diou_loss),
    ("ciou_loss", losses.ciou_loss()),
    ("ciou_loss", losses.ciou_loss(constant_tradeoff=False)),
]


# ---- the formulas, for one pair of boxes


def _inner(a: Any, b: Any) -> Any:
    """The larger; the mean of both where they are equal, as by hand."""
    return (a + b + jnp.abs(a - b) * jnp.where(a == b, 0.0, 1.0)) / 2


def _length(low: Any, high: Any) -> Any:
    return jnp.where(high > low, high - low, 0.0)


def _overlap(y: Any, t: Any) -> tuple[Any, Any]:
    """I and U."""
    shared = _length(_inner(y[0], t[0]), -_inner(-y[2], -t[2])) * _length(_inner(y[1], t[1]), -_inner(-y[3], -t[3]))
    areas = [_length(b[0], b[2]) * _length(b[1], b[3]) for b in (y, t)]
    return shared, areas[0] + areas[1] - shared


def _hull(y: Any, t: Any) -> tuple[Any, Any]:
    """Width and height of the smallest box around both."""
    return _inner(y[2], t[2]) + _inner(-y[0], -t[0]), _inner(y[3], t[3]) + _inner(-y[1], -t[1])


def _iou_loss(y: Any, t: Any) -> Any:
    shared, union = _overlap(y, t)
    return 1 - shared / union


def _giou_loss(y: Any, t: Any) -> Any:
    width, height = _hull(y, t)
    return _iou_loss(y, t) + 1 - _overlap(y, t)[1] / (width * height)


def _diou_loss(y: Any, t: Any) -> Any:
    width, height = _hull(y, t)
    distance = sum((y[i] + y[i + 2] - t[i] - t[i + 2]) ** 2 / 4 for i in (0, 1))
    return _iou_loss(y, t) + distance / (width**2 + height**2)


def _ciou_loss(constant: bool) -> Callable[[Any, Any], Any]:
    def value(y: Any, t: Any) -> Any:
        angles = [jnp.arctan((b[2] - b[0]) / (b[3] - b[1])) for b in (y, t)]
        v = 4 / np.pi**2 * (angles[1] - angles[0]) ** 2
        alpha = v / (_iou_loss(y, t) + v)
        return _diou_loss(y, t) + (jax.lax.stop_gradient(alpha) if constant else alpha) * v

    return value


FORMULAS = {"iou_loss": _iou_loss, "giou_loss": _giou_loss, "diou_loss": _diou_loss}


# ---- as records


def boxes(rows: int, apart: float, size: float = 1.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of boxes whose centres are about so far apart, in units of their size."""
    rng = np.random.default_rng([seed, rows])
    pairs = []
    for shift in (0.0, apart):
        centre = rng.uniform(-0.2, 0.2, (rows, 2)) + shift
        half = rng.uniform(0.4, 0.9, (rows, 2)) * np.where(rng.uniform(size=(rows, 1)) < 0.5, 1.0, 0.6)
        pairs.append(size * np.concatenate([centre - half, centre + half], 1))
    return pairs[0], pairs[1]


def _point(y: Any, t: Any, mask: Any = None) -> Point:
    mask = np.ones(len(y), bool) if mask is None else mask
    return Point({"y": jnp.asarray(y)}, {"t": jnp.asarray(t), "mask": jnp.asarray(mask)})


def _regimes() -> dict[str, Callable[[], Point]]:
    y, t = boxes(regimes.ROWS, 0.3)
    middle, half = (y[:, :2] + y[:, 2:]) / 2, (y[:, 2:] - y[:, :2]) / 2
    within = np.concatenate([middle - 0.3 * half, middle + 0.4 * half], 1)
    tables: dict[str, tuple[Any, ...]] = {
        "random": (y, t),
        "masked rows": (y, t, regimes.MASK),
        "apart": boxes(regimes.ROWS, 5.0),
        "within one another": (within, y),
        "1000 times as large": boxes(regimes.ROWS, 0.3, 1000.0),
        "a millionth as large": boxes(regimes.ROWS, 0.3, 1e-6),
        "constant rows": (np.broadcast_to(y[:1], y.shape), np.broadcast_to(t[:1], t.shape)),
        "one row": (y[:1], t[:1]),
        "4,096 rows": boxes(regimes.MANY, 0.3),
    }
    return {name: lambda table=table: _point(*table) for name, table in tables.items()}


def _trained(loss: fnn.Loss) -> Point:
    """Boxes that a network predicts from iris, after training on the boxes of sepal and petal sizes."""
    x, _ = map(jnp.asarray, regimes.iris())
    t = jnp.concatenate([x[:, :2] * 0.1, x[:, :2] * 0.1 + jnp.exp(0.2 * x[:, 2:])], 1)
    start = jnp.asarray([-0.2, -0.3, 1.1, 0.8])
    net = fnn.serial(fnn.dense(4, weight_init=0.05, bias_init=lambda key, shape, dtype: start.astype(dtype)))
    params, state = regimes.train(net, loss, x, t)
    return _point(net.forward(params, state, x[::30], None, False)[0], t[::30])


def _kinks(name: str) -> tuple[Kink, ...]:
    """Flush edges, boxes that touch, a side of length 0. What is not moved towards keeps a plain overlap."""
    t = np.array([[0.0, 0.0, 2.0, 1.0]])
    same = Kink("y = t: the box is perfect", "0, the mean of both sides", _point(t, t), None)
    flush = Kink(
        "one edge of y flush with that of t", "the mean of both sides", _point([[0.0, -0.5, 1.5, 0.7]], t), None
    )
    if name == "iou_loss":
        touching = _point([[2.0, 0.2, 3.0, 0.9]], t)
        touch = Kink("the boxes touch", "the flat side's, of boxes apart", touching, {"y": np.array([[1.0, 0, 1, 0]])})
        return (flush, same, touch)
    return (flush, same)


def of_box_loss(name: str, loss: fnn.Loss) -> Part:
    """The record of a box loss."""
    differentiable = loss is not losses.ciou_loss()  # the papers' CIoU holds its weight alpha constant
    formula = FORMULAS.get(name) or _ciou_loss(constant=not differentiable)

    def rule(grad: Callable[[Any, Any], Any]) -> Callable[[Any, Any, Any], Any]:
        return lambda at, given, dy: {"y": jnp.asarray(dy)[:, None] * grad(at["y"], given["t"])}

    others = [other for _, other in BOX_LOSSES if str(other) != str(loss)]
    mistakes = {f"the rule of {other}": rule(other.grad) for other in others}
    mistakes["y and t swapped"] = rule(lambda y, t: loss.grad(t, y))
    mistakes["of U, with I held constant"] = rule(lambda y, t: loss.grad(y, t) - jax.grad(_shared_part)(y, t))
    return Part(
        "loss",
        name,
        str(loss),
        lambda at, given: loss.value(at["y"], given["t"]),
        rule(loss.grad),
        lambda at, given: jax.vmap(formula)(at["y"], given["t"]),
        {**_regimes(), "200 steps": lambda: _trained(loss)},
        mistakes,
        _kinks(name) if differentiable else (),
        differentiable,
    )


def _shared_part(y: Any, t: Any) -> Any:
    def one(y: Any, t: Any) -> Any:
        shared, union = _overlap(y, t)
        return -shared / jax.lax.stop_gradient(union)

    return jax.vmap(one)(y, t).sum()


RECORDS = {str(loss): partial(of_box_loss, name, loss) for name, loss in BOX_LOSSES}
