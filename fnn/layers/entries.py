"""Which layers the inputs of a network reach as they are, for checks of these inputs on the host."""

from typing import Any, NamedTuple

from fnn.arguments.leaves import leaf_name
from fnn.factories import Spec
from fnn.layers.branches.splitting import parallel, select
from fnn.layers.combinators import as_layer, repeat, residual, serial
from fnn.layers.images.convolution import flatten
from fnn.layers.precision import mixed_precision
from fnn.types import LayerLike


class Entry(NamedTuple):
    """A layer, by what made it; what messages call the inputs that it gets; and these."""

    spec: Spec
    name: str
    x: Any


def entries(net: LayerLike, factory: object, name: str, x: Any) -> list[Entry]:
    """The layers of a factory that inputs reach as they are, in a network of fnn's own layers.

    >>> import fnn
    >>> from fnn.layers.entries import entries
    >>> net = fnn.serial(fnn.parallel(town=fnn.embedding(3, 2), age=fnn.dense(2)), fnn.add(), fnn.embedding(3, 2))
    >>> [(found.name, found.x) for found in entries(net, fnn.embedding, "x", {"town": [0], "age": [1.5]})]
    [('x["town"]', [0])]
    """
    layer = as_layer(net)
    spec = layer.spec if isinstance(layer.spec, Spec) else Spec(None)
    if spec.factory is factory:
        return [Entry(spec, name, x)]
    if spec.factory is parallel:
        given, several = dict(spec.arguments), isinstance(x, (dict, tuple))
        branches = dict(given["named"]) or dict(enumerate(given["layers"]))
        parts = {
            place: (leaf_name(name, place), x[place]) if several else (name, x)
            for place in branches
            if not several or _has(x, place)
        }
        return [found for place, part in parts.items() for found in entries(branches[place], factory, *part)]
    if spec.factory in (serial, residual, repeat, mixed_precision):
        for child in spec.children or ():
            if getattr(child.spec, "factory", None) is select:
                place = dict(child.spec.arguments)["place"]
                if not _has(x, place):
                    return []
                name, x = leaf_name(name, place), x[place]
                continue
            if getattr(child.spec, "factory", None) is not flatten:
                return entries(child, factory, name, x)
    return []


def _has(x: Any, place: str | int) -> bool:
    """Whether there is an array in this place; where there is none, the network says so."""
    if isinstance(x, dict):
        return place in x
    return isinstance(x, tuple) and place in range(-len(x), len(x))
