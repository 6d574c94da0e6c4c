"""Batch normalisation: each channel over the rows of a batch."""

from math import prod

import jax.numpy as jnp
from jax import lax

from fnn.arguments import as_floats, beside, flag, like, scalar
from fnn.factories import factory
from fnn.layers.normalisations.affine import (
    apply_affine,
    check_channels,
    grad_affine,
    grad_x_hat,
    initial_affine,
    sum_over_rows,
)
from fnn.layers.normalisations.statistics import inverse_deviation, mean_over_rows
from fnn.layers.precision import float32_or_wider
from fnn.types import Array, Cache, Key, Layer, Params, Rows, Scalar, Shape, ShapeError, State, Train


@factory
def batch_norm(momentum: Scalar = 0.9, eps: Scalar = 1e-5, *, scale: bool = True, offset: bool = True) -> Layer:
    """Batch normalisation: each channel (the last axis) to mean 0 and variance 1, then `scale` and `offset`.

    `x̂ = (x - mean) r`, `r = 1/√(var + eps)`, `y = scale x̂ + offset`. Mean and variance are those of a channel over
    all `n` numbers that it has in the batch, over rows and, for images, over space: `mean = Σ x/n`,
    `var = Σ (x - mean)²/n`. In prediction they are the running ones, which each training step moves:
    `running = momentum running + (1 - momentum) batch`, from mean 0 and variance 1 at the start.

    Backward, with `g = dy scale`: `dscale = Σ dy x̂`, `doffset = Σ dy`, and, through mean and variance,
    `dx = r (g - (Σ g + x̂ Σ g x̂)/n)`. In prediction mean and variance are constants: `dx = r g`.
    Ioffe & Szegedy 2015, arXiv:1502.03167.

    Trained with `Rows(mask)`, padding counts for nothing: not in the statistics, not in `n`, not in `dscale` and
    `doffset`, and its `dx` is 0. It comes out normalised as the rest; what is enormous or not finite in it counts as 0.
    Without a true row the running statistics stay; a last batch of few rows moves them as much as a full one does. The
    weights that a loss gives to rows do not enter the statistics.

    A channel that never varies, and one row alone, give `offset` exactly. Statistics are in float32 at least, `y` has
    the dtype of `x`: bfloat16 in, bfloat16 out.

    Coming from elsewhere: `momentum` is the share that is kept, as in Keras and Flax, whose default is 0.99; PyTorch
    calls `1 - momentum` so, and its default 0.1 is 0.9 here. The running variance is `Σ (x - mean)²/n`, as in Keras
    and Flax; PyTorch's is over `n - 1`. `eps` is 1e-5 in PyTorch and Flax, 1e-3 in Keras.

    Args:
        momentum: in [0, 1]; how much of the running statistics a step keeps. May be traced.
        eps: above 0; added to the variance. May be traced.
        scale: whether there is a learned `scale` per channel; starts at 1.
        offset: whether there is a learned `offset` per channel; starts at 0.

    Returns:
        A layer for `x` of shape `(batch, ..., channels)`, with params `{"scale": (channels,), "offset": (channels,)}`
        and state `{"mean": (channels,), "var": (channels,)}`. Integer inputs are converted.

    Raises:
        ShapeError: examples without channels, `x` with other channels than the state, a mask that is not `(batch,)`.
        ValueError, TypeError: `momentum` or `eps` is not a number in its range.

    >>> import fnn, jax, jax.numpy as jnp
    >>> layer = fnn.batch_norm(momentum=0.5)
    >>> params, state, out_shape = layer.init(jax.random.key(0), (2,))
    >>> x = jnp.array([[1.0, 50.0], [3.0, 50.0]])
    >>> y, state, cache = layer.forward(params, state, x, None, True)
    >>> print(y.round(3), state["mean"], state["var"], sep="; ")
    [[-1.  0.]
     [ 1.  0.]]; [ 1. 25.]; [1.  0.5]
    """
    momentum = scalar("batch_norm", "a momentum", momentum, "Keep a share in [0, 1]")
    if isinstance(momentum, (int, float)) and momentum > 1:
        raise ValueError(f"batch_norm: expected a momentum of at most 1, got {momentum}. Keep a share in [0, 1].")
    eps = scalar("batch_norm", "an eps", eps, "Write eps=1e-5", positive=True)
    scale, offset = flag("scale", scale, "batch_norm"), flag("offset", offset, "batch_norm")

    def init(key: Key, in_shape: Shape) -> tuple[Params, State, Shape]:
        params, channels = initial_affine("batch_norm", in_shape, scale, offset), in_shape[-1:]
        dtype = jnp.result_type(float)
        return params, {"mean": jnp.zeros(channels, dtype), "var": jnp.ones(channels, dtype)}, in_shape

    def forward(params: Params, state: State, x: Array, key: Key, train: Train) -> tuple[Array, State, Cache]:
        x = as_floats("batch_norm", x)
        check_channels("batch_norm", x, state)
        wide, share = float32_or_wider(x), None
        if train:
            wide, share = _row_shares(wide, train)
            centred, mean, var = _moments(wide, share)
            state = _update_running(state, momentum, mean, var, share)
            r = inverse_deviation(centred, share, like(eps, wide))
        else:
            mean, var = state["mean"].astype(wide.dtype), state["var"].astype(wide.dtype)
            centred, r = wide - beside(mean, wide), 1.0 / jnp.sqrt(var + like(eps, var))
        x_hat = centred * beside(r, centred)
        return apply_affine(params, x_hat).astype(x.dtype), state, (x_hat, r, share)

    def backward(params: Params, cache: Cache, dy: Array) -> tuple[Params, Array]:
        x_hat, r, share = cache
        wide = dy.astype(x_hat.dtype)
        if share is None:  # prediction: mean and variance are constants
            return grad_affine(params, x_hat, wide), (beside(r, wide) * grad_x_hat(params, wide)).astype(dy.dtype)
        wide = jnp.where(share > 0, wide, 0.0)
        g = grad_x_hat(params, wide)
        sums = beside(sum_over_rows(g), g) + x_hat * beside(sum_over_rows(g * x_hat), g)
        dx = beside(r, g) * (g - share * sums)
        return grad_affine(params, x_hat, wide), dx.astype(dy.dtype)

    return Layer(None, init, forward, backward)


# ---- statistics of the batch


def _row_shares(x: Array, train: Train) -> tuple[Array, Array]:
    """`x`, of ordinary size in padding; and by how much each row counts in a mean: 1/n, and 0 for padding."""
    if x.size == 0:
        raise ShapeError(f"batch_norm: expected at least one row when it trains, got {x.shape}. Pass rows.")
    positions = x.size // x.shape[-1] // x.shape[0]  # of each row: 1 for vectors, h w for images
    if not isinstance(train, Rows):
        return x, jnp.full((), 1.0 / (x.shape[0] * positions), x.dtype)
    mask = jnp.asarray(train.mask)
    if mask.shape != x.shape[:1]:
        raise ShapeError(
            f"batch_norm: expected a mask of shape {x.shape[:1]}, got {mask.shape}. Mark each row True or False."
        )
    real = mask.astype(bool).reshape(-1, *[1] * (x.ndim - 1))
    counted = real.astype(x.dtype)
    share = counted / (jnp.maximum(counted.sum(), 1.0) * positions)
    ordinary = jnp.abs(x) < 2.0 ** (jnp.finfo(x.dtype).maxexp // 2)  # else its `x̂` may be inf, and 0 · inf is nan
    return jnp.where(real | ordinary, x, 0.0), share


def _moments(x: Array, share: Array) -> tuple[Array, Array, Array]:
    """`x - mean`, mean and variance of each channel.

    Distances are taken from one of the numbers themselves: so a channel that never varies has variance 0 exactly
    (the mean of ten times 0.1 is not 0.1), and one that is far from 0 loses no digits. The mean does not depend on
    which number that is, so there is no derivative by it.
    """
    of_rows = x.reshape(x.shape[0], prod(x.shape[1:-1]), x.shape[-1])[:, 0]
    first = jnp.arange(x.shape[0]) == jnp.argmax(share.reshape(-1) > 0)  # a row that counts
    # a sum of one number, since to take that row from `x` would write down all of `x` before: a third of a step
    origin = lax.stop_gradient(jnp.where(first[:, None], of_rows, 0.0).sum(0))
    distance = x - beside(origin, x)
    shift = mean_over_rows(distance, share)
    centred = distance - beside(shift, x)
    return centred, origin + shift, mean_over_rows(jnp.square(centred), share)


def _update_running(state: State, momentum: Scalar, mean: Array, var: Array, share: Array) -> State:
    """The running statistics after a step; as they were if no row counted."""

    def update_running(running: Array, batch: Array) -> Array:
        keep = like(momentum, running)
        return jnp.where((share > 0).any(), keep * running + (1.0 - keep) * batch.astype(running.dtype), running)

    return {"mean": update_running(state["mean"], mean), "var": update_running(state["var"], var)}
