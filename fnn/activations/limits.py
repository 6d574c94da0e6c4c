"""nan and infinity in functions made of pieces: nan stays nan, infinity has its limit, to autodiff as well.

`where(x > 0, a, b)` takes nan for a number that is not above 0: its value may be lost, its derivative is that of `b`.
And a formula such as `x σ(x)` has a limit at -inf that its product, `-inf · 0`, has not.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from fnn.arguments import like
from fnn.types import Array, Numbers


def nan_or_1(x: Array) -> Array:
    """1, and nan where `x` is nan: a factor that no comparison loses."""
    return jnp.where(x == x, jnp.ones_like(x), jnp.full_like(x, jnp.nan))


def keep_nan(x: Array) -> Array:
    """`x`; its derivative is 1, and nan where `x` is nan, on whichever side of a `where` it then is.

    >>> import jax, jax.numpy as jnp
    >>> from fnn.activations.limits import keep_nan
    >>> [float(jax.grad(lambda x: jnp.where(keep_nan(x) > 0, x, 0.0))(x)) for x in (2.0, float("nan"))]
    [1.0, 0.0]
    >>> [float(jax.grad(lambda x: jnp.where(x <= 0, 0.0, keep_nan(x)))(x)) for x in (2.0, float("nan"))]
    [1.0, nan]
    """
    return x * nan_or_1(x)


FAR = 1e4  # e^-x is 0 from 746 on in any dtype


@jax.named_scope("smooth")
def relu_when_far(function: Callable[[Array], Array], x: Array) -> Array:
    """`function(x)`, whose limits are those of relu; far from 0 relu itself, where the formula would be `0 · inf`."""
    far = jnp.abs(x) > FAR
    return jnp.where(far, jnp.where(x > 0, x, 0.0), function(jnp.where(far, 0.0, x)))


@jax.named_scope("smooth")
def step_when_far(function: Callable[[Array], Array], x: Array) -> Array:
    """`function(x)`; far from 0 the derivative of relu: 0 and 1."""
    far = jnp.abs(x) > FAR
    return jnp.where(far, jnp.where(x > 0, 1.0, 0.0), function(jnp.where(far, 0.0, x)))


def times(factor: Numbers, x: Array) -> Array:
    """`factor · x` in the dtype of `x`; 0 where the factor is 0, also of infinity.

    >>> import jax.numpy as jnp
    >>> from fnn.activations.limits import times
    >>> print(times(0.0, jnp.array([-jnp.inf, jnp.nan])))
    [ 0. nan]
    """
    product = like(factor, x) * x
    if isinstance(factor, (int, float)) and factor != 0:
        return product
    return jnp.where((like(factor, x) == 0) & jnp.isinf(x), 0.0, product)
