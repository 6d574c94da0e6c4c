"""Normalisation of each row over its features; no row touches another."""

from math import prod

import jax.numpy as jnp
from jax import lax

from fnn.arguments import as_floats, flag, like, scalar, whole_number
from fnn.factories import factory
from fnn.layers.normalisations.affine import apply_affine, check_channels, grad_affine, grad_x_hat, initial_affine
from fnn.layers.normalisations.statistics import inverse_deviation
from fnn.layers.precision import float32_or_wider
from fnn.types import Array, Cache, Key, Layer, Params, Scalar, Shape, ShapeError, State, Train

OF_GROUP = (1, 3)  # the axes of a group: positions, and channels of it


@factory
def layer_norm(eps: Scalar = 1e-5, *, scale: bool = True, offset: bool = True) -> Layer:
    """Layer normalisation: each row over its last axis to mean 0 and variance 1, then `scale` and `offset`.

    `x̂ = (x - mean) r`, `r = 1/√(var + eps)`, `y = scale x̂ + offset`, with `mean = Σ x/n` and
    `var = Σ (x - mean)²/n` over the `n` features of the last axis: for images, over the channels of each pixel (the
    default of Keras and Flax; for the whole image, flatten it before). The same in training and prediction; no row
    touches another.

    Backward, with `g = dy scale`: `dscale = Σ dy x̂` and `doffset = Σ dy` over all axes but the last,
    `dx = r (g - mean(g) - x̂ mean(g x̂))`, means over the last axis. Ba et al. 2016, arXiv:1607.06450.

    A row whose features are all equal (so any row of one feature) gives `offset` exactly. Statistics are computed in
    float32 at least and `y` has the dtype of `x`. `eps` is 1e-5 in PyTorch, 1e-6 in Flax, 1e-3 in Keras.

    Args:
        eps: above 0; added to the variance. May be traced.
        scale: whether there is a learned `scale` a feature; starts at 1.
        offset: whether there is a learned `offset` a feature; starts at 0.

    Returns:
        A layer for `x` of shape `(batch, ..., features)`, with params `{"scale": (features,), "offset": (features,)}`
        and no state. Integer inputs are converted.

    Raises:
        ShapeError: examples without features, or `x` with other features than the parameters.
        ValueError, TypeError: `eps` is not a number above 0.

    >>> import fnn, jax, jax.numpy as jnp
    >>> layer = fnn.layer_norm()
    >>> params, state, out_shape = layer.init(jax.random.key(0), (2,))
    >>> print(layer.forward(params, state, jnp.array([[1.0, 3.0], [50.0, 50.0]]), None, True)[0].round(3))
    [[-1.  1.]
     [ 0.  0.]]
    """
    eps = scalar("layer_norm", "an eps", eps, "Write eps=1e-5", positive=True)
    scale, offset = flag("scale", scale, "layer_norm"), flag("offset", offset, "layer_norm")

    def init(key: Key, in_shape: Shape) -> tuple[Params, State, Shape]:
        return initial_affine("layer_norm", in_shape, scale, offset), (), in_shape

    def forward(params: Params, state: State, x: Array, key: Key, train: Train) -> tuple[Array, State, Cache]:
        x = as_floats("layer_norm", x)
        check_channels("layer_norm", x, params)
        wide = float32_or_wider(x)
        distance = wide - lax.stop_gradient(wide[..., :1])  # as in _moments
        centred = distance - distance.mean(-1, keepdims=True)
        r = inverse_deviation(centred, None, like(eps, wide))
        x_hat = centred * r
        return apply_affine(params, x_hat).astype(x.dtype), state, (x_hat, r)

    def backward(params: Params, cache: Cache, dy: Array) -> tuple[Params, Array]:
        x_hat, r = cache
        wide = dy.astype(x_hat.dtype)
        g = grad_x_hat(params, wide)
        dx = r * (g - g.mean(-1, keepdims=True) - x_hat * (g * x_hat).mean(-1, keepdims=True))
        return grad_affine(params, x_hat, wide), dx.astype(dy.dtype)

    return Layer(None, init, forward, backward)


@factory
def rms_norm(eps: Scalar = 1e-6, *, scale: bool = True) -> Layer:
    """Normalisation by the root mean square: each row over its last axis to mean square 1, then `scale`.

    `x̂ = x r`, `r = 1/√(mean(x²) + eps)`, `y = scale x̂`, the mean over the `n` features of the last axis: for images,
    over the channels of each pixel. It is `layer_norm` without the mean and the offset, and does as well in many
    networks. The same in training and prediction; no row touches another.

    Backward, with `g = dy scale`: `dscale = Σ dy x̂` over all axes but the last, `dx = r (g - x̂ mean(g x̂))`, the mean
    over the last axis. Zhang & Sennrich 2019, arXiv:1910.07467.

    A row of zeros gives 0. Statistics are computed in float32 at least and `y` has the dtype of `x`. `eps` is 1e-6 in
    Flax and Keras, and in PyTorch the distance of 1 from the next number of its dtype.

    Args:
        eps: above 0; added to the mean square. May be traced.
        scale: whether there is a learned `scale` a feature; starts at 1.

    Returns:
        A layer for `x` of shape `(batch, ..., features)`, with params `{"scale": (features,)}` and no state. Integer
        inputs are converted.

    Raises:
        ShapeError: examples without features, or `x` with other features than the parameters.
        ValueError, TypeError: `eps` is not a number above 0.

    >>> import fnn, jax, jax.numpy as jnp
    >>> layer = fnn.rms_norm()
    >>> params, state, out_shape = layer.init(jax.random.key(0), (2,))
    >>> print(layer.forward(params, state, jnp.array([[2.0, -2.0], [0.0, 0.0]]), None, True)[0].round(3))
    [[ 1. -1.]
     [ 0.  0.]]
    """
    eps = scalar("rms_norm", "an eps", eps, "Write eps=1e-6", positive=True)
    scale = flag("scale", scale, "rms_norm")

    def init(key: Key, in_shape: Shape) -> tuple[Params, State, Shape]:
        return initial_affine("rms_norm", in_shape, scale, False), (), in_shape

    def forward(params: Params, state: State, x: Array, key: Key, train: Train) -> tuple[Array, State, Cache]:
        x = as_floats("rms_norm", x)
        check_channels("rms_norm", x, params)
        wide = float32_or_wider(x)
        r = inverse_deviation(wide, None, like(eps, wide))
        infinite = jnp.abs(lax.stop_gradient(wide)).max(-1, keepdims=True) == jnp.inf
        r = jnp.where(infinite, 0.0, r)  # the limit: beside inf all else is 0
        x_hat = wide * r
        return apply_affine(params, x_hat).astype(x.dtype), state, (x_hat, r)

    def backward(params: Params, cache: Cache, dy: Array) -> tuple[Params, Array]:
        x_hat, r = cache
        wide = dy.astype(x_hat.dtype)
        g = grad_x_hat(params, wide)
        dx = r * (g - x_hat * (g * x_hat).mean(-1, keepdims=True))
        return grad_affine(params, x_hat, wide), dx.astype(dy.dtype)

    return Layer(None, init, forward, backward)


@factory
def group_norm(groups: int, eps: Scalar = 1e-5, *, scale: bool = True, offset: bool = True) -> Layer:
    """Group normalisation: the channels of each example in groups, each to mean 0 and variance 1; `scale`, `offset`.

    `x̂ = (x - mean) r`, `r = 1/√(var + eps)`, `y = scale x̂ + offset`. Channels (the last axis) are cut into groups of
    neighbours, and mean and variance are those of the `n` numbers of one group in one example, over space and over the
    channels of the group: `mean = Σ x/n`, `var = Σ (x - mean)²/n`. Scale and offset are one a channel. With one group
    it is the layer normalisation of whole images, with as many groups as channels the instance normalisation. The same
    in training and prediction; no row touches another, so it does not depend on the batch as `batch_norm` does.

    Backward, with `g = dy scale`: `dscale = Σ dy x̂` and `doffset = Σ dy` over all axes but the last,
    `dx = r (g - mean(g) - x̂ mean(g x̂))`, means over the group. Wu & He 2018, arXiv:1803.08494.

    A group whose numbers are all equal gives `offset` exactly. Statistics are computed in float32 at least and `y` has
    the dtype of `x`. `eps` is 1e-5 in PyTorch, 1e-6 in Flax, 1e-3 in Keras.

    Args:
        groups: into how many groups the channels are cut, at least 1. Divides them.
        eps: above 0; added to the variance. May be traced.
        scale: whether there is a learned `scale` per channel; starts at 1.
        offset: whether there is a learned `offset` per channel; starts at 0.

    Returns:
        A layer for `x` of shape `(batch, ..., channels)`, with params `{"scale": (channels,), "offset": (channels,)}`
        and no state. Integer inputs are converted.

    Raises:
        ShapeError: examples have no channels, other channels than the parameters, or channels that cannot be cut into
            the groups.
        ValueError, TypeError: `groups` is not a whole number of at least 1, `eps` not a number above 0.

    >>> import fnn, jax, jax.numpy as jnp
    >>> layer = fnn.group_norm(2)
    >>> params, state, out_shape = layer.init(jax.random.key(0), (4,))
    >>> print(layer.forward(params, state, jnp.array([[1.0, 3.0, 50.0, 50.0]]), None, True)[0].round(3))
    [[-1.  1.  0.  0.]]
    """
    groups = whole_number("group_norm", groups, 1, "Write group_norm(4).", what="a whole number of groups")
    name = f"group_norm({groups})"
    eps = scalar(name, "an eps", eps, "Write eps=1e-5", positive=True)
    scale, offset = flag("scale", scale, name), flag("offset", offset, name)

    def to_groups(x: Array) -> Array:
        """(batch, positions, groups, channels of a group)."""
        return x.reshape(x.shape[0], prod(x.shape[1:-1]), groups, x.shape[-1] // groups)

    def init(key: Key, in_shape: Shape) -> tuple[Params, State, Shape]:
        params = initial_affine(name, in_shape, scale, offset)
        _check_groups(name, in_shape, groups)
        return params, (), in_shape

    def forward(params: Params, state: State, x: Array, key: Key, train: Train) -> tuple[Array, State, Cache]:
        x = as_floats(name, x)
        check_channels(name, x, params)
        _check_groups(name, x.shape[1:], groups)
        wide = to_groups(float32_or_wider(x))
        distance = wide - lax.stop_gradient(wide[:, :1, :, :1])  # as for a batch: equal numbers are exactly at 0
        centred = distance - distance.mean(OF_GROUP, keepdims=True)
        r = inverse_deviation(centred, None, like(eps, wide), OF_GROUP)
        x_hat = (centred * r).reshape(x.shape)
        return apply_affine(params, x_hat).astype(x.dtype), state, (x_hat, r)

    def backward(params: Params, cache: Cache, dy: Array) -> tuple[Params, Array]:
        x_hat, r = cache
        wide = dy.astype(x_hat.dtype)
        g, h = to_groups(grad_x_hat(params, wide)), to_groups(x_hat)
        dx = r * (g - g.mean(OF_GROUP, keepdims=True) - h * (g * h).mean(OF_GROUP, keepdims=True))
        return grad_affine(params, x_hat, wide), dx.reshape(dy.shape).astype(dy.dtype)

    return Layer(None, init, forward, backward)


def _check_groups(name: str, in_shape: Shape, groups: int) -> None:
    if in_shape[-1] % groups:
        raise ShapeError(
            f"{name}: expected channels that can be cut into {groups} groups, got {in_shape[-1]} from {in_shape}. "
            "Use groups that divide the channels."
        )
