"""Arrays put on every device of a mesh."""

import functools
from typing import Any

import jax
import numpy as np

from fnn.arguments import trees
from fnn.training.layout import Layout
from fnn.training.state import Start
from fnn.types import Buffer, Part, Tree


def put_start(layout: Layout | None, start: Start) -> Start:
    """What a run begins with, its arrays on every device of the mesh."""
    if layout is None:
        return start
    key, data, params, state = put_everywhere(layout, (start.key, start.data, start.params, start.state))
    return Start(key, data, start.settings, params, state)


def put_everywhere(layout: Layout | None, tree: Tree) -> Tree:
    """The arrays on every device of the mesh, whole; without a layout as they are."""
    if layout is None:
        return tree
    if not layout.mesh.is_multi_process:
        return jax.device_put(tree, layout.everywhere)
    return put_as(jax.tree.map(lambda leaf: layout.everywhere, tree), tree)


def put_buffer(layout: Layout | None, buffer: Buffer) -> Buffer:
    """A buffer on every device of the mesh; one with rows of this process alone on its own devices."""
    if layout is None or buffer.mask is None:
        placed: Buffer = put_everywhere(layout, buffer)
        return placed
    local: Any = jax.make_array_from_process_local_data
    x, t, weight = jax.tree.map(lambda a: local(layout.of_places, np.asarray(a)), tuple(buffer.part[:3]))
    copy: Any = _copy_to_all(layout.everywhere)
    return Buffer(Part(x, t, copy(weight)), *put_everywhere(layout, buffer[1:]))


@functools.lru_cache(8)
def _copy_to_all(sharding: Any) -> Any:
    """A program that puts an array together on every device."""
    return jax.jit(lambda a: a, out_shardings=sharding)


def whole_on_host(layout: Layout, array: Any) -> np.ndarray:
    """An array that is split over the devices of all processes, whole; all of them call this."""
    together: Any = _copy_to_all(layout.everywhere)
    return np.asarray(together(array))


def put_as(shardings: Tree, tree: Tree) -> Tree:
    """Arrays that each process has whole, placed so; without a word between the processes."""

    def put(leaf: Any, sharding: Any) -> Any:
        if trees.is_key(leaf):
            words = np.asarray(jax.random.key_data(leaf))
            return jax.random.wrap_key_data(place(words, sharding), dtype=leaf.dtype)
        return place(np.asarray(leaf), sharding)

    def place(array: np.ndarray, sharding: Any) -> Any:
        return jax.make_array_from_callback(array.shape, sharding, lambda at: array[at])

    return jax.tree.map(put, tree, shardings)
