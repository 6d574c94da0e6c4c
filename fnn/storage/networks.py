"""A network in a closed vocabulary: the public factories and activations of fnn by name, numbers, text, None, tuples
and arrays. Reading looks names up in that table and nowhere else, so a file can run nothing of its own.
"""

import os
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn.activations.elementwise import Activation
from fnn.factories import Spec, call_factory, origin
from fnn.trees import to_jax
from fnn.types import Layer, PathLike

Json = Any  # what JSON holds: None, numbers, text, lists and dicts of these


def _vocabulary() -> dict[str, Any]:
    """The names that a file may hold: what is public in fnn and is a factory, or an activation."""
    import fnn  # here, since this module is a part of it

    return {
        name: thing
        for name, thing in vars(fnn).items()
        if isinstance(thing, Activation) or getattr(thing, "is_factory", False)
    }


def to_json(thing: object, constants: list[np.ndarray], unknown: list[str]) -> Json:
    """A layer or an argument as JSON; arrays go to `constants`; what has no words goes, printed, to `unknown`."""
    if thing is None or type(thing) in (bool, int, float, str):
        return thing
    if type(thing) is tuple:
        return [to_json(part, constants, unknown) for part in thing]
    if isinstance(thing, (np.ndarray, np.generic, jax.Array)) and not jnp.issubdtype(thing.dtype, jax.dtypes.extended):
        constants.append(np.asarray(thing))
        kind = "jax" if isinstance(thing, jax.Array) else "number" if isinstance(thing, np.generic) else "numpy"
        return {"array": len(constants) - 1, "kind": kind}
    words = {id(value): name for name, value in _vocabulary().items()}
    if isinstance(thing, Activation) and id(thing) in words:
        return {"activation": words[id(thing)]}
    spec = getattr(thing, "spec", None)
    if isinstance(spec, Spec) and id(spec.factory) in words:
        before = len(unknown)
        arguments = {name: to_json(value, constants, unknown) for name, value in spec.arguments}
        if len(unknown) > before:
            return None
        if origin(thing) is not None:  # else changed after it was made
            return {"factory": words[id(spec.factory)], "arguments": arguments}
    unknown.append(getattr(thing, "__name__", None) or str(thing))
    return None


def from_json(path: PathLike, about: Mapping[str, Any], leaves: dict[str, np.ndarray]) -> Layer:
    """The network that a file describes."""
    path = os.fspath(path)
    hint = "Hand the network over: fnn.load(path, net=net)."
    if about["unknown"]:
        unknown = ", ".join(dict.fromkeys(about["unknown"]))
        raise ValueError(
            f"{path}: expected a network of fnn's own layers, got {about['printed']}, in which {unknown} "
            f"{'are' if len(set(about['unknown'])) > 1 else 'is'} not. {hint}"
        )
    try:
        net = _make(about["net"], leaves, _vocabulary())
    except (ValueError, TypeError, KeyError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise ValueError(
            f"{path}: expected a network that this version of fnn can make, got {about['printed']} ({reason}). {hint}"
        ) from None
    if not isinstance(net, Layer):
        raise ValueError(f"{path}: expected a network, got {net!r}. {hint}")
    return net


def _make(words: Any, leaves: dict[str, np.ndarray], vocabulary: dict[str, Any]) -> Any:
    """`to_json` backwards."""
    if isinstance(words, list):
        return tuple(_make(part, leaves, vocabulary) for part in words)
    if not isinstance(words, dict):
        return words
    if "array" in words:
        array = leaves[f"net/{words['array']}"]
        if words["kind"] == "jax":
            return to_jax("net", array)
        return array[()] if words["kind"] == "number" else array
    if "activation" in words:
        return vocabulary[words["activation"]]
    arguments = {name: _make(part, leaves, vocabulary) for name, part in words["arguments"].items()}
    return call_factory(vocabulary[words["factory"]], arguments)
