"""Mixed precision: a network computes in bfloat16, its parameters and everything outside it stay as they are."""

import jax
import jax.numpy as jnp
import numpy as np

from fnn.arguments import as_floats, describe_value
from fnn.factories import factory
from fnn.layers.combinators import layer_of
from fnn.layers.passes import backward_layer, forward_layer, init_layer
from fnn.types import Array, Cache, DType, DTypeLike, Key, Layer, LayerLike, Params, Shape, State, Train, Tree


@factory(children=lambda net, dtype: (net,))
def mixed_precision(net: LayerLike, dtype: DTypeLike = "bfloat16") -> Layer:
    """A network that computes in a narrower dtype: `y = wide(f(narrow(params), narrow(x)))`.

    Backward: `dy` is narrowed, `f` passes it back in `dtype`, and `dparams` and `dx` are widened to the dtypes of
    `params` and `x`: the derivative of a cast is the cast back. Parameters, and so the optimizer, the loss and sums
    over rows, stay float32. Micikevicius et al. 2017, arXiv:1710.03740.

    bfloat16 has the range of float32 and 8 bits of precision (2 to 3 decimal digits), so no loss scaling is needed.
    float16 has 11 bits, but derivatives below 6e-8 vanish in it. It pays where the hardware has bfloat16 products
    (GPUs from Ampere on); elsewhere it may be slower than float32.

    Args:
        net: a network, a layer, or what `serial` takes. Its layer state (running statistics) is not narrowed.
        dtype: a floating dtype, by name or as NumPy's or JAX's.

    Returns:
        A layer whose params and state are those of `net`; shapes as `net` has them. Integer inputs are converted.

    Raises:
        TypeError: `dtype` is not a floating dtype.

    >>> import fnn, jax
    >>> net = fnn.mixed_precision(fnn.serial(fnn.dense(64), fnn.relu, fnn.dense(10)))
    >>> params, state, _ = net.init(jax.random.key(0), (20,))
    >>> y, _, (_, caches) = net.forward(params, state, jax.numpy.ones((5, 20)), None, False)
    >>> print(params[0]["w"].dtype, caches[0].dtype, y.dtype)
    float32 bfloat16 float32
    """
    try:
        narrow = jnp.dtype(dtype) if isinstance(dtype, (str, type, np.dtype)) else None  # NumPy takes None, too
    except TypeError:
        narrow = None
    if narrow is None or not jnp.issubdtype(narrow, jnp.floating):
        raise TypeError(f"mixed_precision: expected a floating dtype, got {describe_value(dtype)}. Write 'bfloat16'.")
    child = layer_of("net", net)

    def init(key: Key, in_shape: Shape) -> tuple[Params, State, Shape]:
        return init_layer(child, key, in_shape)

    def forward(params: Params, state: State, x: Tree, key: Key, train: Train) -> tuple[Tree, State, Cache]:
        several = isinstance(x, (dict, tuple))  # in which integers (categories) stay
        x = x if several else as_floats("mixed_precision", x)
        p = _cast_floats(narrow, params)
        y, new_state, cache = forward_layer(child, p, state, _cast_floats(narrow, x), key, train)
        return _cast_floats(_widest(x), y), _cast_like(state, new_state), (p, cache)

    def backward(params: Params, cache: tuple[Params, Cache], dy: Tree) -> tuple[Params, Tree]:
        dparams, dx = backward_layer(child, *cache, _cast_floats(narrow, dy))
        return _cast_like(params, dparams), _cast_floats(_widest(dy), dx)  # y, and so dy, has the dtype of x

    return Layer(None, init, forward, backward)


def float32_or_wider(x: Array) -> Array:
    """`x` in a dtype in which sums of its numbers neither overflow nor lose digits: for means and variances.

    >>> from fnn.layers.precision import float32_or_wider
    >>> float32_or_wider(jax.numpy.ones(2, "float16")).dtype
    dtype('float32')
    """
    return x.astype(jnp.float32) if jnp.finfo(x.dtype).bits < 32 else x


def _widest(x: Tree) -> DType:
    """The dtype of the floats among inputs; the default where there are none."""
    return jnp.result_type(*[a.dtype for a in jax.tree.leaves(x) if jnp.issubdtype(a.dtype, jnp.floating)] or [float])


def _cast_floats(dtype: DType, tree: Tree) -> Tree:
    return jax.tree.map(lambda a: a.astype(dtype) if jnp.issubdtype(a.dtype, jnp.floating) else a, tree)


def _cast_like(before: Tree, after: Tree) -> Tree:
    """The dtypes that they had."""
    return jax.tree.map(lambda a, b: b.astype(a.dtype), before, after)
