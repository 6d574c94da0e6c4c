"""Penalties: a number added to the cost for the size of the weights, with its derivative by hand. Documents D0.

Weights are penalised, biases are not: a leaf counts where its key is not "b" (nor another of `EXEMPT`).
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from fnn.factory import factory
from fnn.types import Array, Params, Penalty

EXEMPT = ("b",)


@factory
def l2(coefficient: float) -> Penalty:
    """`c Σ w²` over all weights; derivative `2 c w`. Ridge; weight decay by `λ` is `l2(λ/(2m))` for m rows.

    Args:
        coefficient: `c`, at least 0.

    >>> import fnn, jax.numpy as jnp
    >>> penalty = fnn.penalties.l2(0.5)
    >>> print(penalty({"w": jnp.array([1.0, -2.0]), "b": jnp.array([9.0])}))
    2.5
    """
    _not_negative("l2", coefficient)
    return _penalty(lambda w: coefficient * jnp.square(w).sum(), lambda w: 2.0 * coefficient * w)


@factory
def l1(coefficient: float) -> Penalty:
    """`c Σ |w|` over all weights; derivative `c sign(w)`, 0 at w = 0. Lasso.

    Args:
        coefficient: `c`, at least 0.

    >>> import fnn, jax.numpy as jnp
    >>> print(fnn.penalties.l1(0.5).grad({"w": jnp.array([1.0, 0.0, -2.0])})["w"])
    [ 0.5  0.  -0.5]
    """
    _not_negative("l1", coefficient)
    return _penalty(lambda w: coefficient * jnp.abs(w).sum(), lambda w: coefficient * jnp.sign(w))


def _not_negative(name: str, coefficient: Any) -> None:
    if isinstance(coefficient, (int, float)) and not coefficient >= 0:
        raise ValueError(f"{name}: expected a coefficient of at least 0, got {coefficient}. Do pass 0 for no penalty.")


def _penalty(value: Callable[[Array], Array], derivative: Callable[[Array], Array]) -> Penalty:
    """A sum over the weights of a pytree, from the formula of one weight array."""

    def whole_value(params: Params) -> Array:
        weights = [leaf for path, leaf in jax.tree.leaves_with_path(params) if _counts(path)]
        return sum((value(w) for w in weights), start=jnp.zeros(()))

    def whole_grad(params: Params) -> Params:
        return jax.tree.map_with_path(
            lambda path, leaf: derivative(leaf) if _counts(path) else jnp.zeros_like(leaf), params
        )

    return Penalty(None, whole_value, whole_grad)


def _counts(path: Any) -> bool:
    return getattr(path[-1], "key", None) not in EXEMPT if path else True
