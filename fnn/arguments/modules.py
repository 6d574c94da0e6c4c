"""Networks of other libraries, recognised by their classes, so that a message can name the adapter."""

import types

import jax
import numpy as np

from fnn.types import Record

ADAPTERS = {  # the beginning of a class's module -> what makes a layer of its objects
    "flax.linen": "fnn.from_flax_linen",
    "flax.nnx": "fnn.from_flax_nnx",
    "equinox": "fnn.from_equinox",
    "haiku": "fnn.from_haiku",
}
OTHERS = "torch", "keras", "tensorflow"  # for which there is none
CLASSES = {"Module", "Transformed", "TransformedWithState", "Layer", "Operation"}


def is_module(value: object) -> bool:
    """Whether this looks like a network of Flax, Haiku or PyTorch."""
    pairs = (("init", "apply"), ("parameters", "forward"))
    known = isinstance(value, (type, tuple, Record, types.FunctionType))
    return not known and any(all(hasattr(value, name) for name in pair) for pair in pairs)


def adapter_hint(value: object) -> str:
    """What to do with a network of another library where a layer is wanted; "" for anything else.

    A module of Equinox without arrays is a plain function, and is left to be one.
    """
    kind = value if isinstance(value, type) else type(value)
    for base in kind.__mro__:
        library = next((name for name in (*ADAPTERS, *OTHERS) if f"{base.__module__}.".startswith(f"{name}.")), "")
        if not library or base.__name__ not in CLASSES:
            continue
        if library in OTHERS:
            return "Build it from fnn's layers, or use a network of Flax, Equinox or Haiku."
        has_arrays = any(isinstance(leaf, (jax.Array, np.ndarray)) for leaf in jax.tree.leaves(value))
        if library == "equinox" and kind is not value and not has_arrays:
            return ""
        return f"Pass {ADAPTERS[library]}({f'{kind.__name__}(…)' if kind is value else '…'})."
    return ""
