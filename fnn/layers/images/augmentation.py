"""Images made different each time that they are trained on, within the program: shifted, flipped, cropped, noisy.

Each is a layer that draws from its key when it trains, for every example anew, and does nothing random in prediction.
Moving numbers does not need floats: bytes stay bytes, a quarter of the memory, until `rescale` makes floats of them.
"""

import jax
import jax.numpy as jnp

from fnn import arguments
from fnn.arguments import as_floats, finite, like, scalar
from fnn.factories import factory
from fnn.layers.noise import random_layer, require_key
from fnn.types import Array, Cache, Key, Layer, Params, Scalar, Shape, ShapeError, State, Train


@factory
def random_shift(most: int) -> Layer:
    """In training each image is moved by whole pixels, up to `most` in each direction; what comes in is 0.

    `y[n, i, j] = x[n, i + a_n, j + b_n]`, 0 beyond the image; `a_n`, `b_n` are whole numbers drawn evenly from
    [-most, most]. In prediction `y = x`. Backward: `dx[n, i, j] = dy[n, i - a_n, j - b_n]`, 0 beyond: the move back.

    Args:
        most: a whole number of pixels, at least 0.

    Returns:
        A layer for `x` of shape `(batch, height, width, channels)` and of any dtype, which stays.

    Raises:
        ShapeError: examples are not images.
        ValueError: `most` is out of its range; or it trains without a key.

    >>> import fnn, jax, jax.numpy as jnp
    >>> x = jnp.arange(9, dtype=jnp.uint8).reshape(1, 3, 3, 1)
    >>> print(fnn.random_shift(1).forward((), (), x, jax.random.key(8), True)[0][0, :, :, 0])
    [[0 0 0]
     [0 0 1]
     [0 3 4]]
    """
    most = _whole("random_shift", "most", most, 0)
    name = f"random_shift({most})"

    def init(key: Key, in_shape: Shape) -> tuple[Params, State, Shape]:
        _images(name, in_shape)
        return (), (), in_shape

    def move(x: Array, by: Array) -> Array:
        return _shifted_crop(x, by, (x.shape[1], x.shape[2]), (most, most))

    def draw(key: Key, batch: int) -> Array:
        return _random_integers(key, batch, (2 * most + 1, 2 * most + 1)) - most

    return random_layer(name, init, draw, move, lambda dy, by, shape: move(dy, -by))


@factory
def random_flip(rate: Scalar = 0.5, *, vertical: bool = False) -> Layer:
    """In training each image is mirrored with probability `rate`: left and right, or top and bottom.

    `y[n, i, j] = x[n, i, width - 1 - j]` if drawn, else `x[n, i, j]`. In prediction `y = x`. Backward: the same
    images' `dy` mirrored.

    Args:
        rate: probability, in [0, 1]. May be traced.
        vertical: whether top and bottom change places, in place of left and right.

    Returns:
        A layer for `x` of shape `(batch, height, width, channels)` and of any dtype, which stays.

    Raises:
        ShapeError: examples are not images.
        ValueError, TypeError: `rate` is no probability; or it trains without a key.

    >>> import fnn, jax, jax.numpy as jnp
    >>> x = jnp.arange(3, dtype=jnp.uint8).reshape(1, 1, 3, 1)
    >>> print(fnn.random_flip(1.0).forward((), (), x, jax.random.key(0), True)[0].ravel())
    [2 1 0]
    """
    hint = "Pass the probability of mirroring, in [0, 1]"
    rate = scalar("random_flip", "a rate", rate, hint)
    if isinstance(rate, (int, float)) and rate > 1:
        raise ValueError(f"random_flip: expected a rate of at most 1, got {rate}. {hint}.")
    vertical = arguments.flag("vertical", vertical, "random_flip")

    def init(key: Key, in_shape: Shape) -> tuple[Params, State, Shape]:
        _images("random_flip", in_shape)
        return (), (), in_shape

    def mirror(x: Array, drawn: Array) -> Array:
        return jnp.where(drawn[:, None, None, None], jnp.flip(x, 1 if vertical else 2), x)

    def draw(key: Key, batch: int) -> Array:
        return jax.random.uniform(key, (batch,), jnp.float32) < jnp.asarray(rate, jnp.float32)

    return random_layer("random_flip", init, draw, mirror, lambda dy, drawn, shape: mirror(dy, drawn))


@factory
def random_crop(height: int, width: int) -> Layer:
    """Each image cut to `height × width`: in training at a place drawn evenly, in prediction from the middle.

    `y[n, i, j] = x[n, i + a_n, j + b_n]`; in prediction `a = ⌊(rows - height)/2⌋`, `b` likewise. Backward:
    `dx[n, i, j] = dy[n, i - a_n, j - b_n]`, 0 where nothing was cut out.

    Args:
        height, width: of what is left, at least 1.

    Returns:
        A layer from `(batch, rows, columns, channels)` to `(batch, height, width, channels)`, any dtype, which stays.

    Raises:
        ShapeError: examples are not images, or smaller than what is to be left.
        ValueError: a size is out of its range; or it trains without a key.

    >>> import fnn, jax.numpy as jnp
    >>> x = jnp.arange(16, dtype=jnp.uint8).reshape(1, 4, 4, 1)
    >>> print(fnn.random_crop(2, 2).forward((), (), x, None, False)[0].ravel())
    [ 5  6  9 10]
    """
    size = (_whole("random_crop", "height", height, 1), _whole("random_crop", "width", width, 1))
    name = f"random_crop({height}, {width})"

    def spare(shape: Shape) -> tuple[int, int]:
        _images(name, shape)
        if shape[0] < size[0] or shape[1] < size[1]:
            raise ShapeError(
                f"{name}: expected images of at least {size[0]} × {size[1]}, got {shape[0]} × {shape[1]} from {shape}. "
                "Crop to less."
            )
        return shape[0] - size[0], shape[1] - size[1]

    def init(key: Key, in_shape: Shape) -> tuple[Params, State, Shape]:
        spare(in_shape)
        return (), (), (*size, in_shape[2])

    def forward(params: Params, state: State, x: Array, key: Key, train: Train) -> tuple[Array, State, Cache]:
        down, right = spare(x.shape[1:])
        if train:
            by = _random_integers(require_key(name, key), x.shape[0], (down + 1, right + 1))
        else:
            by = jnp.broadcast_to(jnp.asarray([down // 2, right // 2], jnp.int32), (x.shape[0], 2))
        return _shifted_crop(x, by, size, (0, 0)), state, (x, by)

    def backward(params: Params, cache: Cache, dy: Array) -> tuple[Params, Array]:
        x, by = cache
        return (), _shifted_crop(dy, -by, (x.shape[1], x.shape[2]), spare(x.shape[1:]))

    return Layer(None, init, forward, backward)


@factory
def rescale(factor: Scalar = 1 / 255, offset: Scalar = 0.0) -> Layer:
    """`y = factor x + offset`, in training and in prediction; bytes become floats. Backward: `dx = factor dy`.

    Args:
        factor, offset: finite numbers; the defaults take bytes from [0, 255] to [0, 1]. May be traced.

    Returns:
        A layer for `x` of any shape.

    Raises:
        ValueError, TypeError: `factor` or `offset` is not a finite number.

    >>> import fnn, jax.numpy as jnp
    >>> x = jnp.array([[0, 51, 255]], jnp.uint8)
    >>> print(fnn.rescale(1 / 255).forward((), (), x, None, False)[0].round(3))
    [[0.  0.2 1. ]]
    """
    factor = finite("rescale", "a finite factor", factor, "Pass a number such as 1/255.")
    offset = finite("rescale", "a finite offset", offset, "Pass a number such as 0.")

    def init(key: Key, in_shape: Shape) -> tuple[Params, State, Shape]:
        return (), (), in_shape

    def forward(params: Params, state: State, x: Array, key: Key, train: Train) -> tuple[Array, State, Cache]:
        x = as_floats("rescale", x)
        return x * like(factor, x) + like(offset, x), state, ()

    def backward(params: Params, cache: Cache, dy: Array) -> tuple[Params, Array]:
        return (), dy * like(factor, dy)

    return Layer(None, init, forward, backward)


# ---- what they share


def _shifted_crop(x: Array, by: Array, size: tuple[int, int], beyond: tuple[int, int]) -> Array:
    """`y[n, i, j] = x[n, i + by[n, 0], j + by[n, 1]]` for `size` rows and columns; 0 up to `beyond` outside of x."""
    (down, right), (rows, columns) = beyond, size
    x = jnp.pad(x, ((0, 0), (down, down), (right, right), (0, 0)))
    start = by + jnp.asarray([[down, right]], jnp.int32)

    def one(image: Array, start: Array) -> Array:
        return jax.lax.dynamic_slice(image, (start[0], start[1], jnp.int32(0)), (rows, columns, image.shape[-1]))

    return jax.vmap(one)(x, start)


def _random_integers(key: Key, batch: int, numbers: tuple[int, int]) -> Array:
    """Two whole numbers per example, from 0 up to but not including `numbers`."""
    share = jax.random.uniform(key, (batch, 2), jnp.float32)
    drawn = jnp.floor(share * jnp.asarray([numbers], jnp.float32)).astype(jnp.int32)
    return jnp.minimum(drawn, jnp.asarray([numbers], jnp.int32) - 1)  # a product may round up


def _images(name: str, in_shape: Shape) -> None:
    if len(in_shape) != 3:
        raise ShapeError(
            f"{name}: expected images of shape (height, width, channels), got {in_shape}. "
            "Add an axis of one channel, x[..., None], or put it before fnn.flatten()."
        )


def _whole(name: str, what: str, value: object, at_least: int) -> int:
    return arguments.whole_number(name, value, at_least, f"Write {what}=2.", what=f"{what} to be a whole number")
