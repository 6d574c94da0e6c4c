"""`from_flax_linen`: a module of Flax Linen as a layer."""

import inspect
from collections.abc import Sequence
from typing import Any

import jax

from fnn import arguments
from fnn.layers.adapters.foreign import example, foreign_layer, import_library, input_dtype, refuse
from fnn.types import Array, DTypeLike, Key, Layer, Params, Shape, State

TRAINS = ("train", "training", "is_training")  # what modules call the argument that says so
PREDICTS = ("deterministic", "use_running_average")


@arguments.explain_call
def from_flax_linen(module: Any, *, rngs: Sequence[str] = ("dropout",), in_dtype: DTypeLike = "float32") -> Layer:
    """A module of Flax Linen as a layer: for `fit`, studies, `predict` and `save` as one of fnn.

    `params` are the module's collection "params", `state` its other collections (`batch_stats`). Whether it trains is
    passed to an argument of its `__call__` named `train`, `training` or `is_training`, or, the other way round,
    `deterministic` or `use_running_average`. `init(key, in_shape)` gives the parameters of `module.init(key, x)`.

    Derivatives are autodiff's: `gradient=fnn.backprop` raises an error. A saved run is loaded by
    `fnn.load(path, net=net)`. Rows that fill up the last batch are copies of rows in it, for a module with a state.

    Args:
        module: an instance of a class of `flax.linen`.
        rngs: names of the streams of random numbers that it draws from when it trains; stream `i` gets
            `jax.random.fold_in(key, i)`.
        in_dtype: of the inputs; "int32" for a network of tokens.

    Raises:
        TypeError: it is no such module.
        ImportError: flax is not installed.

    Example::

        net = fnn.from_flax_linen(MLP(features=(64, 10)))
        run = fnn.fit(net, fnn.losses.sparse_softmax_cross_entropy, optax.adam(1e-3), (x, labels), epochs=10)
    """
    name, dtype = "from_flax_linen", input_dtype("from_flax_linen", in_dtype)
    if isinstance(module, type) or not (hasattr(module, "init") and hasattr(module, "apply")):
        raise refuse(name, "a module of flax.linen", module, "Pass an instance of your class, such as MLP().")
    linen, core = import_library(name, "flax.linen", "flax"), import_library(name, "flax.core", "flax")
    if not isinstance(module, linen.Module):
        raise refuse(name, "a module of flax.linen", module, "Use from_haiku or from_flax_nnx for theirs.")
    if isinstance(rngs, str) or not all(isinstance(stream, str) for stream in rngs):
        raise refuse(name, "rngs to be names", rngs, "Write rngs=('dropout',).")
    arguments = inspect.signature(type(module).__call__).parameters

    def flags(train: bool) -> dict[str, bool]:
        given = {flag: train for flag in TRAINS if flag in arguments}
        return given | {flag: not train for flag in PREDICTS if flag in arguments}

    def streams(key: Key) -> dict[str, Key]:
        return {} if key is None else {stream: jax.random.fold_in(key, i) for i, stream in enumerate(rngs)}

    def init(key: Key, in_shape: Shape) -> tuple[Params, State, Shape]:
        x = example(in_shape, dtype)
        with jax.numpy_dtype_promotion("standard"):
            y, variables = module.init_with_output({**streams(key), "params": key}, x, **flags(False))
        state = dict(core.meta.unbox(core.unfreeze(variables)))
        return state.pop("params", {}), state, y.shape[1:]

    def apply(params: Params, state: State, x: Array, key: Key, train: bool) -> tuple[Array, State]:
        variables = {"params": params, **state}
        if not train or not state:
            return module.apply(variables, x, rngs=streams(key), **flags(train)), state
        y, new = module.apply(variables, x, rngs=streams(key), mutable=list(state), **flags(train))
        return y, core.unfreeze(new)

    given = {"module": module, "rngs": tuple(rngs), "in_dtype": str(dtype)}
    return foreign_layer(from_flax_linen, given, f"{name}({type(module).__name__})", dtype, init, apply)
