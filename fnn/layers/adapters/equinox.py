"""`from_equinox`: a module of Equinox as a layer."""

import inspect
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
from fnn.types import Array, DTypeLike, Key, Layer, Params, Record, Shape, State


@arguments.explain_call
def from_equinox(module: Any, *, axis_name: str = "batch", in_dtype: DTypeLike = "float32") -> Layer:
    """A module of Equinox, which computes one example, as a layer: for `fit`, studies, `predict` and `save`.

    `params` are its floating arrays, as dicts by the names of the attributes; `state` has its other arrays and, for a
    module with a state (`eqx.nn.BatchNorm`), the `eqx.nn.State`. It is mapped over the rows of a batch. In prediction
    it is `eqx.nn.inference_mode(module)`. If its `__call__` has an argument `key`, each row gets a key of its own when
    it trains.

    Derivatives are autodiff's: `gradient=fnn.backprop` raises an error. A saved run is loaded by
    `fnn.load(path, net=net)`. Rows that fill up the last batch are copies of rows in it, for a module with a state.

    Args:
        module: a module, or `(module, state)` as `eqx.nn.make_with_state` returns them, and each run starts from its
            parameters; or a function of a key that makes one of these, such as
            `lambda key: eqx.nn.MLP(4, 3, 64, 2, key=key)`, and each seed starts from others, as the members of an
            ensemble need.
        axis_name: of the rows, for modules that look at all of a batch.
        in_dtype: of the inputs; "int32" for a network of tokens.

    Raises:
        TypeError: it is no such module.
        ImportError: equinox is not installed.

    Example::

        net = fnn.from_equinox(lambda key: eqx.nn.MLP(4, 3, 64, 2, key=key))
        run = fnn.fit(net, fnn.losses.sparse_softmax_cross_entropy, optax.adam(1e-3), (x, labels), epochs=10)
    """
    name, dtype = "from_equinox", input_dtype("from_equinox", in_dtype)
    hint = "Pass a module, or a function of a key that makes one."
    pair = isinstance(module, tuple) and len(module) == 2
    if isinstance(module, (type, Record)) or not (pair or callable(module)):
        raise refuse(name, "a module of equinox", module, hint)
    if not isinstance(axis_name, str):
        raise refuse(name, "axis_name to be a word", axis_name, "Write axis_name='batch'.")
    eqx = import_library(name, "equinox", "equinox")
    given = pair or isinstance(module, eqx.Module)
    module = module if given else arguments.function(name, module, 1, "a module of equinox", hint)

    def parts(key: Key) -> Any:
        return _split(eqx, name, module if given else arguments.call(name, module, key), hint)

    like, others, static = eqx.filter_eval_shape(parts, jax.random.key(0))
    takes_key = "key" in inspect.signature(type(static).__call__).parameters
    has_state = others["state"] is not None

    def init(key: Key, in_shape: Shape) -> tuple[Params, State, Shape]:
        params, state, _ = parts(key)
        params, state = (jax.tree.map(jnp.asarray, to_dicts(part)) for part in (params, state))
        return params, state, output_shape(apply, params, state, example(in_shape, dtype))

    def apply(params: Params, state: State, x: Array, key: Key, train: bool) -> tuple[Array, State]:
        fixed = from_dicts(state, others)
        built = eqx.combine(from_dicts(params, like), fixed["arrays"], static)
        built = built if train else eqx.nn.inference_mode(built)
        keys = jax.random.split(key, x.shape[0]) if takes_key and train and key is not None else None

        def one(x: Array, key: Key) -> Any:
            more = {"key": key} if takes_key else {}
            return built(x, fixed["state"], **more) if has_state else (built(x, **more), None)

        mapped = jax.vmap(one, (0, None if keys is None else 0), (0, None), axis_name=axis_name)
        y, new = mapped(x, keys)
        return y, to_dicts({**fixed, "state": new}) if train and has_state else state

    made_by = getattr(module, "__name__", "function") if not given else type(module[0] if pair else module).__name__
    call = {"module": module, "axis_name": axis_name, "in_dtype": str(dtype)}
    return foreign_layer(from_equinox, call, f"{name}({made_by})", dtype, init, apply)


def _split(eqx: Any, name: str, made: Any, hint: str) -> tuple[Any, Any, Any]:
    """Parameters; other arrays, with the state; what is no array."""
    model, state = made if isinstance(made, tuple) and len(made) == 2 else (made, None)
    if not isinstance(model, eqx.Module) or not callable(model) or not isinstance(state, (eqx.nn.State, type(None))):
        raise refuse(name, "a module of equinox", model, hint)
    params, rest = eqx.partition(model, _is_float)
    arrays, static = eqx.partition(rest, _is_array)
    return params, {"arrays": arrays, "state": state}, static


def _is_array(leaf: object) -> bool:
    return hasattr(leaf, "dtype") and hasattr(leaf, "shape")


def _is_float(leaf: Any) -> bool:
    return _is_array(leaf) and jnp.issubdtype(leaf.dtype, jnp.floating)
