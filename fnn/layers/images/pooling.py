"""Pooling: each window of an image to one number per channel, the largest or the mean."""

from collections.abc import Sequence
from functools import reduce

import jax.numpy as jnp
import numpy as np

from fnn.arguments import as_floats, beside
from fnn.factories import factory
from fnn.kernels.windows import Padding, Windows, WindowSpec, add_taps, describe_window, taps, window_spec
from fnn.layers.precision import float32_or_wider
from fnn.types import Array, Cache, DType, InitFn, Key, Layer, Params, Shape, State, Train

BELOW_ALL = float("-inf")


@factory
def max_pool(
    window: int | tuple[int, int], stride: int | tuple[int, int] | None = None, padding: Padding = "VALID"
) -> Layer:
    """The largest number of each window, channel by channel: `y[n, i, j, c] = max_{k, l} x[n, i s + k, j s' + l, c]`.

    Backward: `dx` is, for each number, the sum of the `dy` of the windows whose largest it is. Where several are the
    largest the first of them in row-major order gets all of `dy`, by hand and by autodiff alike (in the topmost row
    that has it, the leftmost). Padding is never the largest. A nan in a window comes out, and the first one gets `dy`.

    Args:
        window: (height, width), at least 1 each; one number for both.
        stride: by how much the window moves on; None: by its own size, so that windows do not overlap.
        padding: as in `conv2d`, but "VALID" by default: what does not fill a window at the lower and the right edge is
            left out. Less than the window on each side.

    Returns:
        A layer from `(batch, height, width, channels)` to `(batch, rows, columns, channels)`, without params or
        state. Integer inputs are converted.

    Raises:
        ValueError: an argument is out of its range.
        ShapeError: examples are not images, or smaller than the window.

    >>> import fnn, jax.numpy as jnp
    >>> layer = fnn.max_pool(2)
    >>> x = jnp.array([[1.0, 5.0, 5.0, 2.0], [5.0, 0.0, 3.0, 4.0]])[None, :, :, None]
    >>> y, state, cache = layer.forward((), (), x, None, False)
    >>> print(y.ravel(), layer.backward((), cache, y)[1].ravel())
    [5. 5.] [0. 5. 5. 0. 0. 0. 0. 0.]
    """
    name = f"max_pool({describe_window(window)})"
    slide = _spec_of_windows(name, window, stride, padding)

    def forward(params: Params, state: State, x: Array, key: Key, train: Train) -> tuple[Array, State, Cache]:
        x = as_floats(name, x)
        rows, columns = _over(slide, name, x)
        y, column = _first_largest(taps(x, 2, columns, BELOW_ALL))  # the leftmost in each row of the window,
        y, row = _first_largest(taps(y, 1, rows, BELOW_ALL))  # then the topmost of the rows
        return y, state, (x, row, column)

    def backward(params: Params, cache: Cache, dy: Array) -> tuple[Params, Array]:
        x, row, column = cache
        rows, columns = _over(slide, name, x)
        dy = add_taps(_route_to_first(dy, row, rows), 1, rows)
        return (), add_taps(_route_to_first(dy, column, columns), 2, columns)

    return Layer(None, _init(slide, name), forward, backward)


def _first_largest(parts: Sequence[Array]) -> tuple[Array, Array]:
    """The largest (or nan), and the place of the first that is it. Autodiff of `where` goes to that one as well."""
    y, place = parts[0], jnp.zeros(parts[0].shape, jnp.uint8 if len(parts) < 256 else jnp.int32)
    for i, part in enumerate(parts[1:], 1):
        larger = (part > y) | ((part != part) & (y == y))
        y, place = jnp.where(larger, part, y), jnp.where(larger, jnp.asarray(i, place.dtype), place)
    return y, place


def _route_to_first(dy: Array, place: Array, over: Windows) -> list[Array]:
    return [jnp.where(place == i, dy, 0.0) for i in range(over.size)]


@factory
def avg_pool(
    window: int | tuple[int, int], stride: int | tuple[int, int] | None = None, padding: Padding = "VALID"
) -> Layer:
    """The mean of each window, channel by channel: `y[n, i, j, c] = (1/m) Σ_{k, l} x[n, i s + k, j s' + l, c]`.

    `m` is how many numbers of the image the window has at this place: padding does not count. So a constant image stays
    constant up to its edges. Keras and TensorFlow have it so; PyTorch and Flax divide by the whole window
    unless they get `count_include_pad=False`. Sums are in float32 at least, `y` has the dtype of `x`.

    Backward: `dx` is, for each number, the sum of `dy/m` of the windows that it is in.

    Args:
        window, stride, padding: as in `max_pool`.

    Returns:
        A layer from `(batch, height, width, channels)` to `(batch, rows, columns, channels)`, without params or
        state. Integer inputs are converted.

    Raises:
        ValueError: an argument is out of its range.
        ShapeError: examples are not images, or smaller than the window.

    >>> import fnn, jax.numpy as jnp
    >>> layer = fnn.avg_pool(2, padding="SAME")
    >>> x = jnp.array([[1.0, 3.0, 5.0], [4.0, 0.0, 7.0]])[None, :, :, None]
    >>> y, state, cache = layer.forward((), (), x, None, False)
    >>> print(y.ravel(), layer.backward((), cache, y)[1].ravel())
    [2. 6.] [0.5 0.5 3.  0.5 0.5 3. ]
    """
    name = f"avg_pool({describe_window(window)})"
    slide = _spec_of_windows(name, window, stride, padding)

    def forward(params: Params, state: State, x: Array, key: Key, train: Train) -> tuple[Array, State, Cache]:
        x = as_floats(name, x)
        rows, columns = _over(slide, name, x)
        wide = float32_or_wider(x)
        sums = reduce(jnp.add, taps(reduce(jnp.add, taps(wide, 2, columns)), 1, rows))
        return (sums / beside(_counts(rows, columns, sums.dtype), sums)).astype(x.dtype), state, x

    def backward(params: Params, x: Array, dy: Array) -> tuple[Params, Array]:
        rows, columns = _over(slide, name, x)
        wide = float32_or_wider(dy)
        share = wide / beside(_counts(rows, columns, wide.dtype), wide)
        dx = add_taps([add_taps([share] * rows.size, 1, rows)] * columns.size, 2, columns)
        return (), dx.astype(dy.dtype)

    return Layer(None, _init(slide, name), forward, backward)


def _counts(rows: Windows, columns: Windows, dtype: DType) -> Array:
    """How many numbers of the image each window has."""
    return jnp.asarray(np.outer(_inside_counts(rows), _inside_counts(columns))[:, :, None], dtype)


def _inside_counts(over: Windows) -> np.ndarray:
    start = np.arange(over.outputs) * over.stride - over.low
    return np.minimum(start + over.span, over.numbers) - np.maximum(start, 0)


@factory
def global_avg_pool() -> Layer:
    """The mean of each channel over the whole image: `y[n, c] = (1/m) Σ_{i, j} x[n, i, j, c]`, `m = height × width`.

    Backward: `dx = dy/m` everywhere. From `(batch, height, width, channels)` to `(batch, channels)`. Lin et al. 2014,
    arXiv:1312.4400.

    >>> import fnn, jax
    >>> fnn.global_avg_pool().init(jax.random.key(0), (7, 7, 50))[2]
    (50,)
    """
    name = "global_avg_pool"

    def init(key: Key, in_shape: Shape) -> tuple[Params, State, Shape]:
        _check(name, in_shape)
        return (), (), in_shape[-1:]

    def forward(params: Params, state: State, x: Array, key: Key, train: Train) -> tuple[Array, State, Cache]:
        x = as_floats(name, x)
        _check(name, x.shape[1:])
        return x.mean((1, 2)), state, x

    def backward(params: Params, x: Array, dy: Array) -> tuple[Params, Array]:
        return (), jnp.broadcast_to(dy[:, None, None, :] / (x.shape[1] * x.shape[2]), x.shape)

    return Layer(None, init, forward, backward)


# ---- what they share


def _spec_of_windows(
    name: str, window: int | tuple[int, int], stride: int | tuple[int, int] | None, padding: Padding
) -> WindowSpec:
    slide = window_spec(name, window, window if stride is None else stride, padding)
    if isinstance(padding, tuple):
        for side, size in zip(padding, slide.window, strict=True):
            if max(side) >= size:
                raise ValueError(
                    f"{name}: expected padding less than the window on each side, got {padding}. "
                    "Pad less: a window must not lie in padding altogether."
                )
    return slide


def _init(slide: WindowSpec, name: str) -> InitFn:
    def init(key: Key, in_shape: Shape) -> tuple[Params, State, Shape]:
        rows, columns = slide.over(name, in_shape)
        return (), (), (rows.outputs, columns.outputs, in_shape[-1])

    return init


def _over(slide: WindowSpec, name: str, x: Array) -> tuple[Windows, Windows]:
    return slide.over(name, x.shape[1:])


def _check(name: str, in_shape: Shape) -> None:
    window_spec(name, 1, 1, "VALID").over(name, in_shape)
