"""`from_flax_nnx`: a module of Flax NNX as a layer."""

from typing import Any

import jax
import jax.numpy as jnp

from fnn import arguments
from fnn.layers.adapters.foreign import (
    example,
    foreign_layer,
    from_dicts,
    import_library,
    input_dtype,
    output_shape,
    refuse,
    to_dicts,
)
from fnn.types import Array, DTypeLike, Key, Layer, Params, Record, Shape, State, Tree


@arguments.explain_call
def from_flax_nnx(module: Any, *, in_dtype: DTypeLike = "float32") -> Layer:
    """A module of Flax NNX as a layer: for `fit`, studies, `predict` and `save` as one of fnn.

    `params` are its `nnx.Param`, `state` its other variables (`nnx.BatchStat`), both as dicts by the names of the
    attributes. `module.train()` and `module.eval()` say whether it trains; its streams of random numbers get the key
    of the step in place of their own. The module itself is never changed.

    Derivatives are autodiff's: `gradient=fnn.backprop` raises an error. A saved run is loaded by
    `fnn.load(path, net=net)`. Rows that fill up the last batch are copies of rows in it, for a module with a state.

    Args:
        module: a module, and each run starts from its parameters; or a function of `nnx.Rngs` that makes one, such as
            `lambda rngs: MLP(64, rngs=rngs)`, and each seed starts from others, as the members of an ensemble need.
        in_dtype: of the inputs; "int32" for a network of tokens.

    Raises:
        TypeError: it is no such module.
        ImportError: flax is not installed.

    Example::

        net = fnn.from_flax_nnx(lambda rngs: MLP(64, rngs=rngs))
        found = fnn.sweep(net, loss, lambda s: optax.adam(s["lr"]), (x, t), over={"lr": [1e-3, 1e-2]}, epochs=10)
    """
    name, dtype = "from_flax_nnx", input_dtype("from_flax_nnx", in_dtype)
    hint = "Pass a module, or a function of nnx.Rngs that makes one."
    if isinstance(module, (type, Record)) or not callable(module):
        raise refuse(name, "a module of flax.nnx", module, hint)
    nnx = import_library(name, "flax.nnx", "flax")
    given = isinstance(module, nnx.Module)
    module = module if given else arguments.function(name, module, 1, "a module of flax.nnx", hint)

    def parts(key: Key) -> Tree:
        """Graph, parameters, random streams, other variables."""
        made = module if given else arguments.call(name, module, nnx.Rngs(key))
        if not isinstance(made, nnx.Module):
            raise refuse(name, "a function that makes a module of flax.nnx", made, hint)
        return nnx.split(made, nnx.Param, nnx.RngState, ...)

    graph, *like = parts(jax.random.key(0)) if given else _shapes_of_parts(nnx, parts)

    def init(key: Key, in_shape: Shape) -> tuple[Params, State, Shape]:
        _, params, _, state = parts(key)
        params, state = (jax.tree.map(jnp.asarray, to_dicts(part)) for part in (params, state))
        return params, state, output_shape(apply, params, state, example(in_shape, dtype))

    def apply(params: Params, state: State, x: Array, key: Key, train: bool) -> tuple[Array, State]:
        built = nnx.merge(graph, from_dicts(params, like[0]), _draw_streams(like[1], key), from_dicts(state, like[2]))
        built.train() if train else built.eval()
        y = built(x)
        return y, from_dicts(to_dicts(nnx.split(built, nnx.Param, nnx.RngState, ...)[3]), state) if train else state

    shown = f"{name}({type(module).__name__ if given else getattr(module, '__name__', 'function')})"
    return foreign_layer(from_flax_nnx, {"module": module, "in_dtype": str(dtype)}, shown, dtype, init, apply)


def _shapes_of_parts(nnx: Any, parts: Any) -> Any:
    """The graph, and the shapes of the parts, of what a function makes: nothing is computed."""
    graphs: list[Any] = []

    def trees(key: Key) -> Tree:
        graph, *rest = parts(key)
        graphs.append(graph)
        return rest

    like = jax.eval_shape(trees, jax.random.key(0))
    return [graphs[0], *like]


def _draw_streams(like: Tree, key: Key) -> Tree:
    """Keys for the streams of random numbers, each of its own; all counts 0."""
    key = arguments.key(0) if key is None else key
    leaves, structure = jax.tree.flatten(like)
    drawn = []
    for i, leaf in enumerate(leaves):
        if not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            drawn.append(jnp.zeros(leaf.shape, leaf.dtype))
            continue
        own = jax.random.fold_in(key, i)
        drawn.append(jax.random.split(own, leaf.shape) if leaf.shape else own)
    return jax.tree.unflatten(structure, drawn)
