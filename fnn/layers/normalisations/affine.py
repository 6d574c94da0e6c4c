"""What all normalisations end with: a learned scale and offset per channel, and their derivatives."""

import jax.numpy as jnp

from fnn.arguments import beside
from fnn.types import Array, Params, Shape, ShapeError


def initial_affine(name: str, in_shape: Shape, scale: bool, offset: bool) -> Params:
    """A scale of 1 and an offset of 0 per channel; a ShapeError if examples have no channels."""
    if len(in_shape) < 1 or min(in_shape) < 1:
        raise ShapeError(
            f"{name}: expected examples of shape (..., channels), at least one number, got {in_shape}. "
            "Give each row an axis of channels: x[:, None]."
        )
    dtype = jnp.result_type(float)
    params = {"scale": jnp.ones(in_shape[-1:], dtype)} if scale else {}
    return {**params, "offset": jnp.zeros(in_shape[-1:], dtype)} if offset else params


def check_channels(name: str, x: Array, made: dict[str, Array]) -> None:
    """A ShapeError if `x` has other channels than what was made for it."""
    channels = next((a.shape[-1] for a in made.values()), x.shape[-1] if x.ndim else 0)
    if x.ndim < 2 or x.shape[-1] != channels:
        raise ShapeError(
            f"{name}: expected x of shape (batch, ..., {channels}), got {x.shape}. "
            "Use the inputs that these parameters were made for."
        )


def sum_over_rows(a: Array) -> Array:
    """Σ over all axes but the last."""
    return a.sum(tuple(range(a.ndim - 1)))


def apply_affine(params: Params, x_hat: Array) -> Array:
    """`scale x̂ + offset`, with those of the two that there are."""
    y = x_hat * beside(params["scale"].astype(x_hat.dtype), x_hat) if "scale" in params else x_hat
    return y + beside(params["offset"].astype(y.dtype), y) if "offset" in params else y


def grad_x_hat(params: Params, dy: Array) -> Array:
    """`dy scale`: the derivative by `x̂`."""
    return dy * beside(params["scale"].astype(dy.dtype), dy) if "scale" in params else dy


def grad_affine(params: Params, x_hat: Array, dy: Array) -> Params:
    """`dscale = Σ dy x̂` and `doffset = Σ dy`, of those that there are."""
    sums = {"scale": lambda: sum_over_rows(dy * x_hat), "offset": lambda: sum_over_rows(dy)}
    return {name: sums[name]().astype(a.dtype) for name, a in params.items()}
