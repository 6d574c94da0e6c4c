"""`from_haiku`: a transformed function of Haiku as a layer."""

from typing import Any

import jax

from fnn import arguments
from fnn.layers.adapters.foreign import example, foreign_layer, import_library, input_dtype, refuse
from fnn.types import Array, DTypeLike, Key, Layer, Params, Shape, State


@arguments.explain_call
def from_haiku(transformed: Any, *, train: str | None = None, in_dtype: DTypeLike = "float32") -> Layer:
    """A transformed function of Haiku as a layer: for `fit`, studies, `predict` and `save` as one of fnn.

    `params` and `state` are Haiku's. `init(key, in_shape)` gives the parameters of `transformed.init(key, x)`, and a
    step draws its random numbers from the key that it gets.

    Derivatives are autodiff's: `gradient=fnn.backprop` raises an error. A saved run is loaded by
    `fnn.load(path, net=net)`. Rows that fill up the last batch are copies of rows in it, for a function with a state.

    Args:
        transformed: what `hk.transform` or `hk.transform_with_state` returned, of a function of a batch of inputs.
        train: the name of the function's argument that says whether it trains, such as "is_training"; None: it has
            none.
        in_dtype: of the inputs; "int32" for a network of tokens.

    Raises:
        TypeError: it is no such function.
        ImportError: dm-haiku is not installed.

    Example::

        net = fnn.from_haiku(hk.transform_with_state(forward), train="is_training")
        run = fnn.fit(net, fnn.losses.sparse_softmax_cross_entropy, optax.adam(1e-3), (x, labels), epochs=10)
    """
    name, dtype = "from_haiku", input_dtype("from_haiku", in_dtype)
    if isinstance(transformed, type) or not (hasattr(transformed, "init") and hasattr(transformed, "apply")):
        raise refuse(name, "a function that hk.transform returned", transformed, "Write hk.transform(function).")
    if not isinstance(train, (str, type(None))):
        raise refuse(name, "train to be the name of an argument", train, "Write train='is_training'.")
    hk = import_library(name, "haiku", "dm-haiku")
    if not isinstance(transformed, (hk.Transformed, hk.TransformedWithState)):
        raise refuse(name, "a function that hk.transform returned", transformed, "Write hk.transform(function).")
    whole = transformed if isinstance(transformed, hk.TransformedWithState) else hk.with_empty_state(transformed)

    def flags(trains: bool) -> dict[str, bool]:
        return {} if train is None else {train: trains}

    def init(key: Key, in_shape: Shape) -> tuple[Params, State, Shape]:
        x = example(in_shape, dtype)
        with jax.numpy_dtype_promotion("standard"):
            params, state = whole.init(key, x, **flags(True))  # its averages do not begin in prediction
            y, _ = jax.eval_shape(lambda: whole.apply(params, state, key, x, **flags(False)))
        return params, state, y.shape[1:]

    def apply(params: Params, state: State, x: Array, key: Key, trains: bool) -> tuple[Array, State]:
        y, new = whole.apply(params, state, key, x, **flags(trains))
        return y, new if trains else state

    arguments = {"transformed": transformed, "train": train, "in_dtype": str(dtype)}
    return foreign_layer(from_haiku, arguments, f"{name}(transformed)", dtype, init, apply)
