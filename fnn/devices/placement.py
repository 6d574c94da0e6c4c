"""Arrays put on every device of a mesh."""

import jax

from fnn.training.layout import Layout
from fnn.training.state import Start
from fnn.types import Tree


def put_start(layout: Layout | None, start: Start) -> Start:
    """What a run begins with, its arrays on every device of the mesh."""
    if layout is None:
        return start
    key, data, params, state = put_everywhere(layout, (start.key, start.data, start.params, start.state))
    return Start(key, data, start.settings, params, state)


def put_everywhere(layout: Layout | None, tree: Tree) -> Tree:
    """The arrays on every device of the mesh, whole; without a layout as they are."""
    return tree if layout is None else jax.device_put(tree, layout.everywhere)
