"""Means over rows that count by their shares, and `1/deviation` without overflow."""

from functools import partial

import jax
import jax.numpy as jnp

from fnn.arguments import beside
from fnn.types import Array


def mean_over_rows(a: Array, share: Array) -> Array:
    """Σ over the rows that count. First within each row: masking all numbers, not just the rows' sums, is slow."""
    share, of_rows = share.reshape(-1, 1), a.sum(tuple(range(1, a.ndim - 1)))
    return jnp.where(share > 0, share * of_rows, 0.0).sum(0)


@partial(jax.custom_jvp, nondiff_argnums=(3,))
def inverse_deviation(centred: Array, share: Array | None, eps: Array, axes: tuple[int, ...] = (-1,)) -> Array:
    """`r = 1/√(var + eps)`; where the variance is beyond the largest number, from distances made smaller by `s`.

    The variance is over these axes, or over the rows by their shares, where there are any. nan where even `r` is below
    the smallest number: it must not be taken for 0.

    Its derivative is written with `x̂`: `dr = -r mean(x̂ r d(x - mean))`, where autodiff's way over `var` underflows.
    """
    s = 2.0 ** -(jnp.finfo(centred.dtype).maxexp * 9 // 16)  # a power of 2: nothing is rounded
    var, scaled = (_mean_of(jnp.square(a), share, axes) for a in (centred, centred * s))
    of_large = s / jnp.sqrt(scaled)
    return jnp.where(var < jnp.inf, 1.0 / jnp.sqrt(var + eps), jnp.where(of_large > 0, of_large, jnp.nan))


@inverse_deviation.defjvp
def _inverse_deviation_jvp(
    axes: tuple[int, ...], at: tuple[Array, Array | None, Array], tangents: tuple[Array, Array | None, Array]
) -> tuple[Array, Array]:
    (centred, share, _), (d_centred, _, d_eps) = at, tangents
    r = inverse_deviation(*at, axes)
    wide = beside(r, centred)
    return r, -r * (_mean_of(centred * wide * (wide * d_centred), share, axes) + 0.5 * r * (r * d_eps))


def _mean_of(a: Array, share: Array | None, axes: tuple[int, ...]) -> Array:
    """Over these axes, or over the rows by their shares."""
    return a.mean(axes, keepdims=True) if share is None else mean_over_rows(a, share)
