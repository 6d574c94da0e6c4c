"""Boxes: the value `iou`, and losses for predicted boxes, on corners `(x1, y1, x2, y2)` with x1 <= x2 and y1 <= y2.

Everything has a value and a finite derivative:
- A side of negative length, which a network may well predict, counts as length 0, and the box as having no area.
- Where neither box has an area, `0/0` is read as: IoU 1 for equal boxes, else 0; a ratio to an enclosing box without
  extent is 0. So the IoU of a box with itself is exactly 1, always, and the loss and its derivative exactly 0.
- At ties of `min` and `max`, where edges are flush, the derivative is the mean of both sides (½ each), as JAX has it:
  so a perfect box has derivative 0. Where boxes only touch, and where a side has length 0, it is that of the flat
  side, 0.
- Sides are measured by the longest side of C, in float32 at least, so that no area overflows. An area that is below
  1e-38 of the square on that side counts as 0.
- nan in a row gives nan, in value and derivative. A corner at infinity counts as one at the largest number, and has the
  derivative 0.

Below, `y` is the predicted box of one row, `t` the true one, I their intersection, U their union, C the smallest box
that encloses both. Each formula stands over its derivative by `y`; extents are `(batch, 2)`: width, height.
Source document 3.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fnn.activations.limits import nan_or_1
from fnn.arguments import as_array, flag
from fnn.factories import factory
from fnn.losses.base import dense_rows, make_loss
from fnn.types import Array, ArrayLike, HasShape, Loss, Numbers, ShapeError, TargetCheck

# ---- what goes in


def _box_rows(name: str, outputs: Numbers, targets: Numbers) -> tuple[Array, Array]:
    y = as_array(name, outputs, "boxes as outputs")
    if y.ndim not in (1, 2) or y.shape[-1] != 4:
        raise ShapeError(
            f"{name}: expected boxes (x1, y1, x2, y2), shape (batch, 4), got {y.shape}. "
            "Give one box a row; for several boxes a row, reshape(-1, 4)."
        )
    return dense_rows(name, y, targets)


def _finite(y: Array) -> Array:
    largest = jnp.finfo(y.dtype).max
    return jnp.where(y > largest, largest, jnp.where(y < -largest, -largest, y))


def _nan_rows(y: Array, t: Array) -> Array:
    """1, and nan for rows with a nan in them."""
    return nan_or_1(jax.lax.stop_gradient(jnp.concatenate([y, t], -1)).max(-1))


def _whole(formula: Callable[[Array, Array], Array], y: Array, t: Array) -> Array:
    """A formula of finite corners, of any corners."""
    known = _nan_rows(y, t)
    return known * formula(_finite(known[:, None] * y), _finite(t))


def _box_loss(name: str, value: Callable[[Array, Array], Array], grad: Callable[[Array, Array], Array]) -> Loss:
    def whole_value(y: Array, t: Array) -> Array:
        return _whole(value, y, t)

    def whole_grad(y: Array, t: Array) -> Array:
        by_corner = jnp.where(jnp.isinf(y), 0.0, grad(_finite(y), _finite(t)))
        return _nan_rows(y, t)[:, None] * by_corner

    whole_value.__doc__ = value.__doc__
    return make_loss(name, _box_rows, whole_value, whole_grad, _check_boxes)


def _check_boxes(name: str) -> TargetCheck:
    def check(outputs: HasShape, targets: np.ndarray) -> None:
        boxes = np.asarray(targets).reshape(-1, 4)
        wrong = np.flatnonzero((boxes[:, 2:] < boxes[:, :2]).any(1))
        if wrong.size:
            raise ValueError(
                f"{name}: expected target boxes (x1, y1, x2, y2) with x1 <= x2 and y1 <= y2, got "
                f"{boxes[wrong[0]].tolist()} in row {wrong[0]}. Give two corners, not one with width and height."
            )

    return check


# ---- extents, and how they change with the corners of y


class _Extents(NamedTuple):
    """Widths and heights, `(batch, 2)`: of both boxes, of what they share, of what encloses them, over `unit`."""

    y: Array
    t: Array
    shared: Array
    hull: Array
    scale: Array  # `(batch, 1)`: 1/16 where a difference could overflow, else 1
    unit: Array  # `(batch, 1)`: the longest side of C, scaled, which no loss depends on


def _extents(y: Array, t: Array) -> _Extents:
    farthest = jnp.abs(jax.lax.stop_gradient(jnp.concatenate([y, t], -1))).max(-1, keepdims=True)
    # then no difference overflows, and no reciprocal of one vanishes
    scale = jnp.where(farthest > float(jnp.finfo(y.dtype).max) / 32, 1 / 16, 1.0).astype(y.dtype)
    y, t = scale * y, scale * t
    low, high, t_low, t_high = y[:, :2], y[:, 2:], t[:, :2], t[:, 2:]
    hull = jnp.maximum(high, t_high) - jnp.minimum(low, t_low)
    longest = jax.lax.stop_gradient(hull).max(-1, keepdims=True)
    unit = jnp.where(longest > 0, longest, 1.0)
    return _Extents(
        _length(high - low) / unit,
        _length(t_high - t_low) / unit,
        _length(jnp.minimum(high, t_high) - jnp.maximum(low, t_low)) / unit,
        hull / unit,
        scale,
        unit,
    )


def _length(side: Array) -> Array:
    return jnp.where(side > 0, side, 0.0)


class _Slopes(NamedTuple):
    """The derivative of each extent by its low and its high corner of y, `(batch, 4)`."""

    y: Array
    shared: Array
    hull: Array


def _slopes(y: Array, t: Array, e: _Extents) -> _Slopes:
    sign = jnp.asarray([-1, -1, 1, 1], y.dtype)
    inner = 0.5 * (
        1.0 + jnp.sign(sign * (e.scale * t - e.scale * y))
    )  # 1 where y's edge is the inner one, ½ where flush
    there = jnp.tile(e.y > 0, 2).astype(y.dtype)
    meets = jnp.tile(e.shared > 0, 2).astype(y.dtype)
    each = e.scale * sign / e.unit
    return _Slopes(each * there, each * meets * inner, each * (1.0 - inner))


def _area(extent: Array) -> Array:
    return extent[:, 0] * extent[:, 1]


def _area_grad(extent: Array, slope: Array) -> Array:
    return jnp.tile(extent[:, ::-1], 2) * slope  # the other side, times how this one changes


@jax.custom_jvp
def _ratio(a: Array, b: Array) -> Array:
    """`a/b`, 0 where b is 0; derivative `(da - a/b db)/b`. JAX's own has `b²`, which is 0 for small boxes, and NaN."""
    some = b >= jnp.finfo(b.dtype).tiny  # smaller ones may count as 0 in one operation and not in the next
    return jnp.where(some, a / jnp.where(some, b, 1.0), 0.0)


@_ratio.defjvp
def _ratio_jvp(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    (a, b), (da, db) = primals, tangents
    r = _ratio(a, b)
    return r, _ratio(da - _countable(r) * db, b)


def _ratio_grad(a: Array, b: Array, da: Array, db: Array) -> Array:
    return _ratio(da - _countable(_ratio(a, b))[:, None] * db, b[:, None])


def _countable(ratio: Array) -> Array:
    return jnp.minimum(ratio, jnp.finfo(ratio.dtype).max / 16)  # that of a distance may be inf, and inf · 0 is none


def _same(y: Array, t: Array) -> Array:
    return (y == t).all(-1)


# ---- intersection over union


def iou(a: ArrayLike, b: ArrayLike) -> Array:
    """Intersection over union of each box in `a` with the box in the same row of `b`: `I/U`, in [0, 1].

    Args:
        a, b: `(batch, 4)` corners `(x1, y1, x2, y2)`; a single box works as a batch of one. Sides of negative length
            count as 0. For every box with every other, `jax.vmap` it.

    >>> import fnn, jax.numpy as jnp
    >>> print(fnn.boxes.iou(jnp.array([[0.0, 0.0, 2.0, 2.0]]), jnp.array([[1.0, 0.0, 3.0, 2.0]])))
    [0.3333333]
    """
    a, b = as_array("iou", a, "boxes a"), as_array("iou", b, "boxes b")
    if jnp.issubdtype(a.dtype, jnp.integer):
        a = a.astype(b.dtype if jnp.issubdtype(b.dtype, jnp.floating) else jnp.result_type(float))
    y, t = _box_rows("iou", a, b)
    return _whole(_iou, y, t).astype(a.dtype)


def _iou(y: Array, t: Array) -> Array:
    shared, union = _areas(_extents(y, t))
    return jnp.where(_same(y, t), 1.0, _ratio(shared, union))


def _iou_grad(y: Array, t: Array) -> Array:
    e = _extents(y, t)
    shared, union = _areas(e)
    d_shared, d_union = _areas_grad(e, _slopes(y, t, e))
    return jnp.where(_same(y, t)[:, None], 0.0, _ratio_grad(shared, union, d_shared, d_union))


def _areas(e: _Extents) -> tuple[Array, Array]:
    """I and U."""
    shared = _area(e.shared)
    return shared, _area(e.y) + _area(e.t) - shared


def _areas_grad(e: _Extents, s: _Slopes) -> tuple[Array, Array]:
    d_shared = _area_grad(e.shared, s.shared)
    return d_shared, _area_grad(e.y, s.y) - d_shared


def _iou_loss(y: Array, t: Array) -> Array:
    """`1 - I/U` per row; derivative by the quotient rule, `-(dI - I/U dU)/U`. 1, and no derivative, for boxes apart.

    The form in common use; Yu et al. 2016 (UnitBox), arXiv:1608.01471, have `-log(I/U)`, infinite for boxes apart.
    Source document 3.

    >>> import fnn, jax.numpy as jnp
    >>> print(fnn.losses.iou_loss(jnp.array([[0.0, 0.0, 2.0, 2.0]]), jnp.array([[1.0, 0.0, 3.0, 2.0]])))
    [0.6666667]
    """
    return 1.0 - _iou(y, t)


def _iou_loss_grad(y: Array, t: Array) -> Array:
    return -_iou_grad(y, t)


def _giou_loss(y: Array, t: Array) -> Array:
    """`1 - I/U + (C - U)/C` per row, areas; derivative that of `1 - I/U`, minus `(dU - U/C dC)/C`. In [0, 2].

    Boxes apart are drawn together. Rezatofighi et al. 2019, arXiv:1902.09630. Source document 3.

    >>> import fnn, jax.numpy as jnp
    >>> print(fnn.losses.giou_loss(jnp.array([[0.0, 0.0, 1.0, 1.0]]), jnp.array([[3.0, 0.0, 4.0, 1.0]])))
    [1.5]
    """
    e = _extents(y, t)
    _, union = _areas(e)
    enclosing = _area(e.hull)
    empty = jnp.where(enclosing >= jnp.finfo(y.dtype).tiny, 1.0 - _ratio(union, enclosing), 0.0)
    return 1.0 - _iou(y, t) + jnp.where(_same(y, t), 0.0, empty)


def _giou_loss_grad(y: Array, t: Array) -> Array:
    e = _extents(y, t)
    s = _slopes(y, t, e)
    _, union = _areas(e)
    _, d_union = _areas_grad(e, s)
    d_empty = -_ratio_grad(union, _area(e.hull), d_union, _area_grad(e.hull, s.hull))
    return -_iou_grad(y, t) + jnp.where(_same(y, t)[:, None], 0.0, d_empty)


# ---- with the distance between the centres, and with the shape


def _diou_loss(y: Array, t: Array) -> Array:
    """`1 - I/U + ρ²/c²` per row: ρ the distance between the centres, c the diagonal of C. In [0, 2].

    Derivative that of `1 - I/U`, plus `(dρ² - ρ²/c² dc²)/c²`; `dρ²` is the distance along its axis at every corner.
    Zheng et al. 2020, arXiv:1911.08287. Source document 3.

    >>> import fnn, jax.numpy as jnp
    >>> print(fnn.losses.diou_loss(jnp.array([[0.0, 0.0, 1.0, 1.0]]), jnp.array([[3.0, 0.0, 4.0, 1.0]])))
    [1.5294118]
    """
    apart, diagonal = _distances(y, t, _extents(y, t))
    return 1.0 - _iou(y, t) + _ratio(jnp.square(apart).sum(-1), diagonal)


def _diou_loss_grad(y: Array, t: Array) -> Array:
    e = _extents(y, t)
    apart, diagonal = _distances(y, t, e)
    d_distance = e.scale * jnp.tile(apart, 2) / e.unit
    d_diagonal = jnp.tile(2.0 * e.hull, 2) * _slopes(y, t, e).hull
    return -_iou_grad(y, t) + _ratio_grad(jnp.square(apart).sum(-1), diagonal, d_distance, d_diagonal)


def _distances(y: Array, t: Array, e: _Extents) -> tuple[Array, Array]:
    """From centre to centre along each axis, `(batch, 2)`, and the square of the diagonal of C, `(batch,)`."""
    moved = (e.scale * y - e.scale * t) / e.unit
    return 0.5 * (moved[:, :2] + moved[:, 2:]), jnp.square(e.hull).sum(-1)


@factory
def ciou_loss(constant_tradeoff: bool = True) -> Loss:
    """`1 - I/U + ρ²/c² + α v` per row: `diou_loss` and the difference in shape, `v = 4/π² (θ_t - θ_y)²`, weighed by
    `α = v/(1 - I/U + v)`, where `θ = atan(width/height)`, in [0, π/2]; v = 0 where a box is a single point.

    Derivative that of `diou_loss`, plus `α dv` with `dv = -8/π² (θ_t - θ_y) (h dw - w dh)/(w² + h²)`, α held constant
    as in the paper's code; without that, `(2α - α²) dv + α² d(I/U)`, the derivative of the value as it stands. The
    factor `1/(w² + h²)`, which is large for small boxes, is kept. Zheng et al. 2020, arXiv:1911.08287. Source
    document 3.

    Args:
        constant_tradeoff: whether α counts as constant in the derivative, by hand and by autodiff alike.

    >>> import fnn, jax.numpy as jnp
    >>> print(fnn.losses.ciou_loss()(jnp.array([[0.0, 0.0, 2.0, 1.0]]), jnp.array([[0.0, 0.0, 1.0, 2.0]])))
    [0.7629183]
    """
    constant_tradeoff = flag("constant_tradeoff", constant_tradeoff, "ciou_loss")

    def value(y: Array, t: Array) -> Array:
        v, _ = _shape_difference(y, t)
        alpha = _tradeoff(y, t, v)
        return _diou_loss(y, t) + (jax.lax.stop_gradient(alpha) if constant_tradeoff else alpha) * v

    def grad(y: Array, t: Array) -> Array:
        v, d_v = _shape_difference(y, t)
        alpha = _tradeoff(y, t, v)[:, None]
        if constant_tradeoff:
            return _diou_loss_grad(y, t) + alpha * d_v
        return _diou_loss_grad(y, t) + (2.0 * alpha - jnp.square(alpha)) * d_v + jnp.square(alpha) * _iou_grad(y, t)

    return _box_loss("ciou_loss", value, grad)


def _tradeoff(y: Array, t: Array, v: Array) -> Array:
    return _ratio(v, 1.0 - _iou(y, t) + v)


def _shape_difference(y: Array, t: Array) -> tuple[Array, Array]:
    """`v`, and its derivative by the corners of y."""
    e = _extents(y, t)
    # not over the longest side of C, beside which a box may be too small to have a shape
    sides, t_sides = (_length(e.scale * box[:, 2:] - e.scale * box[:, :2]) for box in (y, t))
    none = (sides == 0).all(-1) | (t_sides == 0).all(-1) | _same(y, t)
    longer = jax.lax.stop_gradient(jnp.where(none, 1.0, sides.max(-1)))  # by which w and h are divided: w² + h² is safe
    w, h = sides[:, 0] / longer, jnp.where(none, 1.0, sides[:, 1] / longer)  # atan2(0, 0) has no derivative
    difference = jnp.where(none, 0.0, jnp.arctan2(t_sides[:, 0], t_sides[:, 1]) - jnp.arctan2(w, h))
    by_angle = -2.0 * _SCALE * difference / (longer * (jnp.square(w) + jnp.square(h)))
    by_extent = jnp.stack([h * by_angle, -w * by_angle], -1)
    return _SCALE * jnp.square(difference), jnp.tile(by_extent, 2) * (_slopes(y, t, e).y * e.unit)


_SCALE = 4.0 / math.pi**2  # v is at most 1


iou_loss = _box_loss("iou_loss", _iou_loss, _iou_loss_grad)
giou_loss = _box_loss("giou_loss", _giou_loss, _giou_loss_grad)
diou_loss = _box_loss("diou_loss", _diou_loss, _diou_loss_grad)
