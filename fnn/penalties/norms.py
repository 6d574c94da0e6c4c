"""Penalties: a number added to the cost for the size of the weights, with its derivative by hand. Source document 0.

Weights are penalised; biases, scales, offsets and slopes are not; another `mask` may be given. By convention the
derivative of `|w|` at 0 is 0, by hand and by autodiff. A penalty makes weights small; exact zeros come from
`proximal_l1` and `fista`.
"""

from collections.abc import Callable
from functools import reduce

import jax
import jax.numpy as jnp

from fnn.arguments import like, scalar
from fnn.arguments.trees import as_arrays
from fnn.factories import factory
from fnn.penalties.masks import Mask, map_weights, weight_mask
from fnn.types import Array, Params, Penalty, Scalar


@factory
def l2(coefficient: Scalar, mask: Mask = None) -> Penalty:
    """`c Σ w²` over all weights; derivative `2 c w`. Ridge; weight decay by `λ` is `l2(λ/(2m))` for m rows.

    Args:
        coefficient: `c`, at least 0; may be traced.
        mask: function of the parameters that says which are penalised, as `fnn.penalties.weight_mask` has it; None
            takes all but biases, scales, offsets and slopes.

    Raises:
        ValueError, TypeError: the coefficient is negative, not finite, or not a number; the mask does not fit.

    >>> import fnn, jax.numpy as jnp
    >>> penalty = fnn.penalties.l2(0.5)
    >>> print(penalty({"w": jnp.array([1.0, -2.0]), "b": jnp.array([9.0])}))
    2.5
    """
    c = _coefficient("l2", coefficient)
    return _penalty(lambda w: like(c, w) * jnp.square(w).sum(), lambda w: 2.0 * like(c, w) * w, mask)


@factory
def l1(coefficient: Scalar, mask: Mask = None) -> Penalty:
    """`c Σ |w|` over all weights; derivative `c sign(w)`, 0 at w = 0. Lasso.

    Descent along this derivative steps to and fro over 0 and reaches it only by luck: for exact zeros leave the
    penalty out and train with `proximal_l1` or `fista`.

    Args:
        coefficient: `c`, at least 0; may be traced.
        mask: as in `l2`.

    Raises:
        ValueError, TypeError: as `l2`.

    >>> import fnn, jax.numpy as jnp
    >>> print(fnn.penalties.l1(0.5).grad({"w": jnp.array([1.0, 0.0, -2.0])})["w"])
    [ 0.5  0.  -0.5]
    """
    c = _coefficient("l1", coefficient)
    return _penalty(lambda w: like(c, w) * _absolute(w).sum(), lambda w: like(c, w) * jnp.sign(w), mask)


@factory
def elastic_net(l1: Scalar, l2: Scalar, mask: Mask = None) -> Penalty:
    """`a Σ |w| + c Σ w²` over all weights; derivative `a sign(w) + 2 c w`, 0 at w = 0. Zou & Hastie (2005).

    Both coefficients are those of `fnn.penalties.l1` and `l2`. scikit-learn's `ElasticNet(alpha, l1_ratio)` has
    `a = alpha l1_ratio` and `c = alpha (1 - l1_ratio) / 2`. With exact zeros: penalty `l2(c)`, and `proximal_l1(a, …)`.

    Args:
        l1, l2: `a` and `c`, at least 0; may be traced.
        mask: as in `l2`.

    Raises:
        ValueError, TypeError: as `l2`.

    >>> import fnn, jax.numpy as jnp
    >>> print(fnn.penalties.elastic_net(l1=1.0, l2=0.5)({"w": jnp.array([1.0, -2.0]), "b": jnp.array([9.0])}))
    5.5
    """
    a, c = _coefficient("elastic_net", l1), _coefficient("elastic_net", l2)
    return _penalty(
        lambda w: like(a, w) * _absolute(w).sum() + like(c, w) * jnp.square(w).sum(),
        lambda w: like(a, w) * jnp.sign(w) + 2.0 * like(c, w) * w,
        mask,
    )


def _absolute(w: Array) -> Array:
    """`|w|`, whose derivative at 0 is 0 to autodiff too (that of `jnp.abs` is 1 there)."""
    return w * jnp.sign(w)


def _coefficient(name: str, coefficient: object) -> Scalar:
    return scalar(name, "a coefficient", coefficient, "Pass 0 for no penalty")


def _as_floats(params: Params) -> Params:
    """Whole numbers become floats: a coefficient in their dtype would be 0 or 1."""

    def as_float(w: Array) -> Array:
        return w if jnp.issubdtype(w.dtype, jnp.inexact) else w.astype(jnp.result_type(float))

    floats: Params = jax.tree.map(as_float, as_arrays("params", params))
    return floats


def _penalty(value: Callable[[Array], Array], derivative: Callable[[Array], Array], mask: Mask) -> Penalty:
    """A sum over the weights of a pytree, from the formula of one weight array."""

    def whole_value(params: Params) -> Array:
        params = _as_floats(params)
        counts = jax.tree.leaves(weight_mask(params, mask))
        values = [value(w) for w, counted in zip(jax.tree.leaves(params), counts, strict=True) if counted]
        return reduce(jnp.add, values) if values else jnp.zeros(())

    def whole_grad(params: Params) -> Params:
        return map_weights(_as_floats(params), mask, derivative, jnp.zeros_like)

    return Penalty(None, whole_value, whole_grad)
