"""Noise that a network trains with."""

from typing import Any

import jax.numpy as jnp

from fnn.activations.elementwise import as_floats
from fnn.arguments import like, scalar
from fnn.factories import factory
from fnn.kernels import random
from fnn.types import Array, Key, Layer, Shape


@factory
def dropout(rate: Any) -> Layer:
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

    >>> import fnn.layers.noise, jax, jax.numpy as jnp
    >>> layer = fnn.layers.noise.dropout(0.5)
    >>> y, state, keep = layer.forward((), (), jnp.ones((1000, 1)), jax.random.key(0), True)
    >>> print(jnp.unique(y), bool(abs((y == 0).mean() - 0.5) < 0.05))
    [0. 2.] True
    """
    mend = "pass the probability of dropping, in [0, 1)"
    rate = scalar("dropout", "a rate", rate, mend)
    if isinstance(rate, (int, float)) and rate >= 1:
        raise ValueError(f"dropout: expected a rate below 1, got {rate}. Do {mend}.")

    def init(key: Key, in_shape: Shape) -> Any:
        return (), (), in_shape

    def forward(params: Any, state: Any, x: Array, key: Key, train: Any) -> Any:
        x = as_floats("dropout", x)
        if not train or (isinstance(rate, (int, float)) and rate == 0):
            return x, state, ()
        if key is None:
            raise ValueError("dropout: expected a key when it trains, got None. Do pass key=jax.random.key(0).")
        # float32 for every dtype: bfloat16 has too few numbers in [0, 1) to hit a rate
        keep = random.uniform(key, x.shape) >= jnp.asarray(rate, jnp.float32)
        return kept(keep, x), state, keep

    def backward(params: Any, keep: Any, dy: Array) -> Any:
        return (), dy if isinstance(keep, tuple) else kept(keep, dy)  # (): nothing was dropped

    def kept(keep: Array, x: Array) -> Array:
        return jnp.where(keep, x / like(1.0 - rate, x), 0.0)

    return Layer(None, init, forward, backward)
