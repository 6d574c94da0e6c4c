"""Images made larger by a whole factor: each number repeated, or lines between neighbours."""

from functools import reduce

import jax.numpy as jnp
from jax import lax

from fnn.arguments import as_floats, describe_value, one_of
from fnn.factories import factory
from fnn.kernels.windows import check_images, pair
from fnn.layers.precision import float32_or_wider
from fnn.types import Array, Cache, Key, Layer, Params, Shape, State, Train


@factory
def upsample(factor: int | tuple[int, int] = 2, method: str = "nearest") -> Layer:
    """Images `f` times as high and `f'` times as wide, by whole factors, channel by channel.

    "nearest": each number is repeated, `y[n, i, j, c] = x[n, ⌊i/f⌋, ⌊j/f'⌋, c]`. Backward: `dx` is the sum of `dy`
    over the `f × f'` places that have the number.

    "bilinear": along rows, then along columns, each number is a weighted mean of its two neighbours in `x`. The centre
    of place `i` of `y` is at `u = (i + ½)/f - ½` in `x`, and `y[i] = (1 - a) x[⌊u⌋] + a x[⌊u⌋ + 1]` with
    `a = u - ⌊u⌋`. Beyond the image is the number at its edge. Backward: `dx` is the sum of `dy` with these weights. It
    is what PyTorch calls `align_corners=False`, and TensorFlow `half_pixel_centers=True`.

    Args:
        factor: (down, to the right), whole numbers of at least 1; one number for both.
        method: "nearest" or "bilinear".

    Returns:
        A layer from `(batch, height, width, channels)` to `(batch, height × f, width × f', channels)`, without params
        or state. Integer inputs are converted. Sums are in float32 at least, `y` has the dtype of `x`.

    Raises:
        ValueError: an argument is out of its range.
        ShapeError: examples are not images.

    >>> import fnn, jax.numpy as jnp
    >>> x = jnp.array([[1.0, 2.0]])[None, :, :, None]
    >>> for method in ("nearest", "bilinear"):
    ...     layer = fnn.upsample((1, 2), method)
    ...     y, state, cache = layer.forward((), (), x, None, False)
    ...     print(y.ravel(), layer.backward((), cache, y)[1].ravel())
    [1. 1. 2. 2.] [2. 4.]
    [1.   1.25 1.75 2.  ] [2.375 3.625]
    """
    shown = str(factor) if isinstance(factor, int) else describe_value(factor)
    name = f"upsample({shown})"
    both = pair(name, "factor", factor)
    method = one_of("upsample: method", method, ("nearest", "bilinear"))
    enlarge, add = (_interpolate, _sum_interpolation) if method == "bilinear" else (_repeat, _sum_repeats)

    def init(key: Key, in_shape: Shape) -> tuple[Params, State, Shape]:
        check_images(name, in_shape)
        return (), (), (in_shape[0] * both[0], in_shape[1] * both[1], in_shape[2])

    def forward(params: Params, state: State, x: Array, key: Key, train: Train) -> tuple[Array, State, Cache]:
        x = as_floats(name, x)
        check_images(name, x.shape[1:])
        y = enlarge(enlarge(float32_or_wider(x), 1, both[0]), 2, both[1])
        return y.astype(x.dtype), state, ()

    def backward(params: Params, cache: Cache, dy: Array) -> tuple[Params, Array]:
        return (), add(add(float32_or_wider(dy), 2, both[1]), 1, both[0]).astype(dy.dtype)

    return Layer(None, init, forward, backward)


# ---- along one axis; under each the way back


def _repeat(x: Array, axis: int, factor: int) -> Array:
    return _join([x] * factor, axis)


def _sum_repeats(dy: Array, axis: int, factor: int) -> Array:
    return reduce(jnp.add, _phases(dy, axis, factor))


def _interpolate(x: Array, axis: int, factor: int) -> Array:
    """The numbers at one place within each of the `factor` are the same mean of a number and its neighbour."""
    first, last, n = _cut(x, axis, 0, 1), _cut(x, axis, -1, 1), x.shape[axis]
    before = jnp.concatenate([first, _cut(x, axis, 0, n - 1)], axis)
    after = jnp.concatenate([_cut(x, axis, 1, n - 1), last], axis)
    means = [(1 - abs(a)) * x + abs(a) * (before if a < 0 else after) if a else x for a in _shares(factor)]
    return _join(means, axis)


def _sum_interpolation(dy: Array, axis: int, factor: int) -> Array:
    pairs = list(zip(_shares(factor), _phases(dy, axis, factor), strict=True))
    dx = reduce(jnp.add, [(1 - abs(a)) * part if a else part for a, part in pairs])
    if factor == 1:
        return dx
    before, after = (reduce(jnp.add, [abs(a) * part for a, part in pairs if side * a > 0]) for side in (-1, 1))
    edge, inner = jnp.zeros_like(_cut(dx, axis, 0, 1)), jnp.zeros_like(_cut(dx, axis, 1, dx.shape[axis] - 1))
    to_before = jnp.concatenate([_cut(before, axis, 1, dx.shape[axis] - 1), edge], axis)
    to_after = jnp.concatenate([edge, _cut(after, axis, 0, dx.shape[axis] - 1)], axis)
    # at the edges a number is its own neighbour
    to_first = jnp.concatenate([_cut(before, axis, 0, 1), inner], axis)
    to_last = jnp.concatenate([inner, _cut(after, axis, -1, 1)], axis)
    return dx + (to_before + to_first) + (to_after + to_last)


def _shares(factor: int) -> list[float]:
    """How much of a neighbour there is at each place: of the one before where below 0, else of the one after."""
    return [(i + 0.5) / factor - 0.5 for i in range(factor)]


def _cut(x: Array, axis: int, start: int, count: int) -> Array:
    start = start % x.shape[axis] if start < 0 else start
    return lax.slice_in_dim(x, start, start + count, axis=axis)


def _join(parts: list[Array], axis: int) -> Array:
    """Numbers of the parts in turn along an axis."""
    shape = parts[0].shape
    return jnp.stack(parts, axis + 1).reshape(*shape[:axis], shape[axis] * len(parts), *shape[axis + 1 :])


def _phases(y: Array, axis: int, factor: int) -> list[Array]:
    """The way back of `_join`."""
    cut = y.reshape(*y.shape[:axis], y.shape[axis] // factor, factor, *y.shape[axis + 1 :])
    return [phase.squeeze(axis + 1) for phase in lax.split(cut, (1,) * factor, axis + 1)]
