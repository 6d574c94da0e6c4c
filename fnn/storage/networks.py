"""A network in a closed vocabulary: the public factories and activations of fnn by name, numbers, text, None, tuples
and arrays. Reading looks names up in that table and nowhere else, so a file can run nothing of its own.
"""

import contextlib
import os
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn.activations.elementwise import Activation
from fnn.arguments.trees import to_jax
from fnn.factories import Spec, call_factory, origin
from fnn.storage.files import damage_error, printable
from fnn.types import Layer, PathLike

Json = Any  # what JSON holds: None, numbers, text, lists and dicts of these
HAND_OVER = "Hand the network over: fnn.load(path, net=net)."
# what a description may ask for: a network of more layers can be handed over
MOST_LAYERS, MOST_TIMES, MOST_DEPTH = 3000, 2**20, 100


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
    """The network that a file describes.

    Raises:
        ValueError: the network has layers that are not of fnn, so it must be handed over; or an array of it has 64 bits
            and JAX is set to 32.
        DamagedFile: the description is of nothing that this version of fnn can make.
    """
    printed = printable(about["printed"], 70)
    if about["unknown"]:
        unknown = list(dict.fromkeys(about["unknown"]))
        raise ValueError(
            f"{os.fspath(path)}: expected a network of fnn's own layers, got {printed}, in which "
            f"{printable(', '.join(unknown), 120)} {'are' if len(unknown) > 1 else 'is'} not. {HAND_OVER}"
        )
    with _naming_network(path, printed):
        found = _arrays(about["net"], leaves)
    arrays = {(i, kind): to_jax("net", a) if kind == "jax" else a for (i, kind), a in found.items()}
    with _naming_network(path, printed):
        net = _make(about["net"], arrays, _vocabulary())
    if not isinstance(net, Layer):
        raise damage_error(path, "a network", repr(net), HAND_OVER)
    return net


@contextlib.contextmanager
def _naming_network(path: PathLike, printed: str) -> Iterator[None]:
    """Whatever goes wrong in the `with` is the fault of the description."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        reason = f"no {error}" if isinstance(error, KeyError) else error
        got = f"{printed} ({printable(reason, 100)})"
        raise damage_error(path, "a network that this version of fnn can make", got, HAND_OVER) from None


def _nodes(words: Json, traced: int = 1, depth: int = 0) -> Iterator[tuple[Mapping[str, Any], int]]:
    """Every dict of a description, and how often the layer that it describes is traced when the network starts."""
    if depth > MOST_DEPTH:
        raise ValueError(f"nested more than {MOST_DEPTH} deep")
    if isinstance(words, list):
        for part in words:
            yield from _nodes(part, traced, depth + 1)
    elif isinstance(words, dict):
        yield words, traced
        arguments = words.get("arguments", {})
        if arguments.get("times", 0) > MOST_TIMES:
            raise ValueError(f"repeated more than {MOST_TIMES} times")
        inner = 3 * traced if "times" in arguments else traced  # for its shape, and under `vmap`, which takes longer
        for part in arguments.values():
            yield from _nodes(part, inner, depth + 1)


def _arrays(words: Json, leaves: Mapping[str, np.ndarray]) -> dict[tuple[int, str], np.ndarray]:
    """The arrays that a description speaks of, by number and kind; a ValueError where it has too many layers."""
    arrays, layers = {}, 0
    for node, traced in _nodes(words):
        layers += traced if "factory" in node or "activation" in node else 0
        if layers > MOST_LAYERS:
            raise ValueError(f"more than {MOST_LAYERS} layers")
        if "array" in node:
            array = leaves[f"net/{int(node['array'])}"]
            if array.dtype.kind == "c":
                raise TypeError(f"an array of {array.dtype}")
            arrays[int(node["array"]), str(node["kind"])] = array
    return arrays


def _make(words: Json, arrays: Mapping[tuple[int, str], Any], vocabulary: Mapping[str, Any]) -> Any:
    """`to_json` backwards."""
    if isinstance(words, list):
        return tuple(_make(part, arrays, vocabulary) for part in words)
    if not isinstance(words, dict):
        return words
    if "array" in words:
        array = arrays[int(words["array"]), words["kind"]]
        return array[()] if words["kind"] == "number" else array
    name = words["activation"] if "activation" in words else words["factory"]
    thing = vocabulary[name]
    if isinstance(thing, Activation) != ("activation" in words):
        raise TypeError(f"{name} is {'an activation' if isinstance(thing, Activation) else 'a factory'}")
    if "activation" in words:
        return thing
    return call_factory(thing, {name: _make(part, arrays, vocabulary) for name, part in words["arguments"].items()})
