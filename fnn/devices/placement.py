"""Arrays put on every device of a mesh."""

import jax

from fnn.training.layout import Layout
from fnn.types import Tree


def put_everywhere(layout: Layout | None, tree: Tree) -> Tree:
    """The arrays on every device of the mesh, whole; without a layout as they are."""
    return tree if layout is None else jax.device_put(tree, layout.everywhere)
