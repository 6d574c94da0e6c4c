"""Noise that a network trains with."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from fnn.arguments import as_floats, like, scalar
from fnn.factories import factory
from fnn.kernels import random
from fnn.types import Array, Cache, InitFn, Key, Layer, Params, Scalar, Shape, State, Train


@factory
def dropout(rate: Scalar) -> Layer:
    """Dropout: in training each number is dropped (becomes 0) with probability `rate`, in prediction none is.

    Training: `y = keep x/(1 - rate)`, where `keep` is 1 with probability `1 - rate`, else 0, drawn for every number;
    so the mean of `y` is `x`, and prediction is `y = x`. Backward: `dx = keep dy/(1 - rate)` with the very same
    `keep`; in prediction `dx = dy`. Srivastava et al. 2014, Journal of Machine Learning Research 15, 1929-1958
    (who scale in prediction instead).

    Args:
        rate: the probability of dropping, in [0, 1), as in Keras, Flax and PyTorch. May be traced (a setting), and is
            not checked then.

    Returns:
        A layer without params or state, for `x` of any shape. Integer inputs are converted. The same key drops the
        same numbers. A rate that is the number 0 draws nothing and needs no key.

    Raises:
        ValueError: the rate is not in [0, 1); or it trains without a key.
        TypeError: the rate is not a number.

    >>> import fnn, jax, jax.numpy as jnp
    >>> layer = fnn.dropout(0.5)
    >>> y, state, keep = layer.forward((), (), jnp.ones((1000, 1)), jax.random.key(0), True)
    >>> print(jnp.unique(y), bool(abs((y == 0).mean() - 0.5) < 0.05))
    [0. 2.] True
    """
    hint = "Pass the probability of dropping, in [0, 1)"
    rate = scalar("dropout", "a rate", rate, hint)
    if isinstance(rate, (int, float)) and rate >= 1:
        raise ValueError(f"dropout: expected a rate below 1, got {rate}. {hint}.")

    def init(key: Key, in_shape: Shape) -> tuple[Params, State, Shape]:
        return (), (), in_shape

    def forward(params: Params, state: State, x: Array, key: Key, train: Train) -> tuple[Array, State, Cache]:
        x = as_floats("dropout", x)
        if not train or (isinstance(rate, (int, float)) and rate == 0):
            return x, state, ()
        if key is None:
            raise ValueError("dropout: expected a key when it trains, got None. Pass key=jax.random.key(0).")
        # float32 for every dtype: bfloat16 has too few numbers in [0, 1) to hit a rate
        keep = random.uniform(key, x.shape) >= jnp.asarray(rate, jnp.float32)
        return apply_mask(keep, x), state, keep

    def backward(params: Params, keep: Array | tuple[()], dy: Array) -> tuple[Params, Array]:
        return (), dy if isinstance(keep, tuple) else apply_mask(keep, dy)  # (): nothing was dropped

    def apply_mask(keep: Array, x: Array) -> Array:
        return jnp.where(keep, x / like(1.0 - rate, x), 0.0)

    return Layer(None, init, forward, backward)


Draw = Callable[[Key, int], Array]  # (key, batch) -> what is drawn, one entry per example


@factory
def gaussian_noise(deviation: Scalar) -> Layer:
    """In training `y = x + deviation ε`, with `ε` drawn from N(0, 1) for every number; in prediction `y = x`.

    Backward: `dx = dy`. Bishop 1995, doi:10.1162/neco.1995.7.1.108: to first order the same as a penalty on the
    derivative of the outputs by the inputs.

    Args:
        deviation: of the noise, in the unit of `x`, at least 0. May be traced.

    Returns:
        A layer for `x` of any shape. Integer inputs are converted: put `rescale` before it.

    Raises:
        ValueError, TypeError: `deviation` is no number of at least 0; or it trains without a key.

    >>> import fnn, jax, jax.numpy as jnp
    >>> layer = fnn.gaussian_noise(0.1)
    >>> y, state, cache = layer.forward((), (), jnp.ones((1000, 1)), jax.random.key(0), True)
    >>> print(bool(abs(y.mean() - 1) < 0.01), bool(abs(y.std() - 0.1) < 0.01))
    True True
    """
    deviation = scalar("gaussian_noise", "a deviation", deviation, "Pass the noise's size in the unit of x")

    def init(key: Key, in_shape: Shape) -> tuple[Params, State, Shape]:
        return (), (), in_shape

    def forward(params: Params, state: State, x: Array, key: Key, train: Train) -> tuple[Array, State, Cache]:
        x = as_floats("gaussian_noise", x)
        if not train:
            return x, state, ()
        noise = jax.random.normal(require_key("gaussian_noise", key), x.shape, jnp.float32)  # the same for every dtype
        return x + like(deviation, x) * noise.astype(x.dtype), state, ()

    def backward(params: Params, cache: Cache, dy: Array) -> tuple[Params, Array]:
        return (), dy

    return Layer(None, init, forward, backward)


def random_layer(
    name: str,
    init: InitFn,
    draw: Draw,
    change: Callable[[Array, Array], Array],
    back: Callable[[Array, Array, Shape], Array],
) -> Layer:
    """A layer that changes each example by what is drawn for it in training, and nothing in prediction."""

    def forward(params: Params, state: State, x: Array, key: Key, train: Train) -> tuple[Array, State, Cache]:
        init(None, x.shape[1:])  # checks the shape
        if not train:
            return x, state, ()
        drawn = draw(require_key(name, key), x.shape[0])
        return change(x, drawn), state, (x, drawn)

    def backward(params: Params, cache: Cache, dy: Array) -> tuple[Params, Array]:
        return (), back(dy, cache[1], cache[0].shape) if cache else dy

    return Layer(None, init, forward, backward)


def require_key(name: str, key: Key) -> Key:
    """The key, which a layer that draws cannot do without."""
    if key is None:
        raise ValueError(f"{name}: expected a key when it trains, got None. Pass key=jax.random.key(0).")
    return key
