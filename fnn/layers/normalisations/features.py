"""Normalisation of each row over its features; no row touches another."""

from jax import lax

from fnn.arguments import as_floats, flag, like, scalar
from fnn.factories import factory
from fnn.layers.normalisations.affine import apply_affine, check_channels, grad_affine, grad_x_hat, initial_affine
from fnn.layers.normalisations.statistics import inverse_deviation
from fnn.layers.precision import float32_or_wider
from fnn.types import Array, Cache, Key, Layer, Params, Scalar, Shape, State, Train


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
