"""How a run lies on several devices: the rows of a batch are split over them, parameters are on each or split too.

A few constraints say so, and XLA splits the whole program by them: it adds up the derivatives over the devices once per
step. Arrays have the shapes that they have on one device, so dropout, batch norm and a last batch of few rows compute
the same. A batch need not divide: XLA fills it up, and leaves the filling out of every sum.

Without a layout each function here returns what it was given, and the program is that of one device.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from fnn import arguments
from fnn.arguments import trees
from fnn.runs import TrainState
from fnn.training.batches import Batch
from fnn.types import Array, Buffer, HasShape, Params, Rows, Tree

PlaceRule = Callable[[str, HasShape], PartitionSpec]  # (name of a leaf, its shape and dtype) -> how it is split
PLACED = ("params", "optimizer", "best")  # of a `TrainState`; the rest is on every device
OF_PLACE = "a function of a leaf's path and array"
LARGE = 4_096  # numbers of an array that is worth splitting


class Layout(NamedTuple):
    """The devices, as a mesh whose first axis splits rows; and the rule by which parameters are split, if they are."""

    mesh: Mesh
    place: PlaceRule | None = None

    @property
    def everywhere(self) -> NamedSharding:
        """On every device, whole."""
        return NamedSharding(self.mesh, PartitionSpec())

    @property
    def of_places(self) -> NamedSharding:
        """Of batches, `(batches, places of a batch, ...)`, whose places are split along the first axis of the mesh."""
        return NamedSharding(self.mesh, PartitionSpec(None, self.mesh.axis_names[0]))


class PlaceTable(NamedTuple):
    """A rule, asked: equal to another that gives the same, so that one program serves both."""

    specs: tuple[tuple[str, PartitionSpec], ...]

    def __call__(self, path: str, array: HasShape, /) -> PartitionSpec:
        """The place of a leaf."""
        return dict(self.specs)[path]


def make_layout(mesh: Mesh | None, place: PlaceRule | None = None, joint: bool = True) -> Layout | None:
    """The layout of a run from its arguments, checked; None for one device. Of several processes if `joint`."""
    if mesh is None:
        if place is not None:
            raise ValueError('place: expected a mesh too, got none. Pass mesh=jax.make_mesh((8,), ("data",)).')
        return None
    hint = 'Pass mesh=jax.make_mesh((8,), ("data",)).'
    mesh = arguments.instance("mesh", mesh, Mesh, hint, "a jax.sharding.Mesh")
    if not mesh.axis_names:
        raise ValueError(f"mesh: expected at least one axis, along which rows are split, got none. {hint}")
    if not mesh.size or len(set(mesh.devices.flat)) < mesh.size:
        got = "one device several times" if mesh.size else "none"
        raise ValueError(f"mesh: expected devices, each of them once, got {got}. {hint}")
    if AxisType.Explicit in jax.sharding.get_abstract_mesh().axis_types:
        got = "one set by jax.set_mesh with explicit axes"
        raise ValueError(f"mesh: expected no other mesh around the call, got {got}. Call this outside of jax.set_mesh.")
    if place is fully_sharded:  # type: ignore[comparison-overlap]
        raise TypeError(f"place: expected {OF_PLACE}, got fully_sharded itself. Pass fnn.fully_sharded(mesh).")
    if place is not None:
        arguments.function("place", place, 2, OF_PLACE, "Write lambda path, array: jax.P().")
    if mesh.is_multi_process:
        _check_processes(mesh, joint)
    # axes that are "explicit", as make_mesh makes them, would have every layer say how its results are split
    automatic = (AxisType.Auto,) * len(mesh.axis_names)
    return Layout(Mesh(mesh.devices, mesh.axis_names, axis_types=automatic), place)


def _check_processes(mesh: Mesh, joint: bool) -> None:
    """Raise a ValueError unless all processes may work together, and do."""
    if not joint:
        hint = 'Pass jax.make_mesh((n,), ("data",), devices=jax.local_devices()), with n of them.'
        raise ValueError(f"mesh: expected devices of this process, got those of several. {hint}")
    missing = set(range(jax.process_count())) - {device.process_index for device in mesh.devices.flat}
    if missing:
        raise ValueError(
            f"mesh: expected devices of all {jax.process_count()} processes, got none of process {min(missing)}. "
            "Pass jax.make_mesh((jax.device_count(),), ('data',))."
        )


@arguments.explain_call
def fully_sharded(mesh: Mesh, large: int = LARGE) -> PlaceRule:
    """A rule for `place=`: parameters and optimizer state are split over the mesh's first axis, where they are large.

    Each device then holds about 1/n of them, and of the best parameters so far. A step brings the parameters together
    for its computation. An array is split along its longest axis that divides by the number of devices.

    Args:
        mesh: the one that `fit` gets.
        large: numbers that an array has at least to be split; smaller ones are on every device.

    >>> import fnn, jax
    >>> mesh = jax.make_mesh((1,), ("data",))
    >>> rule = fnn.fully_sharded(mesh)
    >>> [tuple(rule("params/0/w", jax.numpy.ones(shape))) for shape in ((30, 784), (784,))]
    [(None, 'data'), ()]
    """
    layout = make_layout(mesh)
    large = arguments.whole_number("large", large, 1)
    if layout is None:
        raise TypeError('mesh: expected a jax.sharding.Mesh, got None. Pass jax.make_mesh((8,), ("data",)).')
    axis = layout.mesh.axis_names[0]
    count = layout.mesh.shape[axis]

    def rule(path: str, array: HasShape) -> PartitionSpec:
        whole = [at for at, size in enumerate(array.shape) if size % count == 0]
        if array.size < large or not whole:
            return PartitionSpec()
        longest = max(whole, key=lambda at: array.shape[at])
        return PartitionSpec(*[None] * longest, axis)

    return rule


# ---- inside the program


def split_rows(layout: Layout | None, batch: Batch) -> Batch:
    """A batch whose rows are split along the mesh's first axis.

    Weights and mask stay whole: their sums, by which all else is divided, then need no word from another device.
    """
    if layout is None:
        return batch
    mask = keep_whole(layout, batch.train) if isinstance(batch.train, Rows) else batch.train
    return Batch(split_arrays(layout, batch.x), split_arrays(layout, batch.t), keep_whole(layout, batch.weight), mask)


def split_arrays(layout: Layout | None, rows: Tree) -> Tree:
    """Arrays whose first axis is rows, split along the mesh's first axis."""
    if layout is None:
        return rows
    return jax.tree.map(lambda a: _constrain(a, layout, PartitionSpec(layout.mesh.axis_names[0])), rows)


def keep_whole(layout: Layout | None, tree: Tree) -> Tree:
    """Arrays that are on every device, whole."""
    return tree if layout is None else jax.lax.with_sharding_constraint(tree, layout.everywhere)


def _constrain(array: Array, layout: Layout, spec: PartitionSpec) -> Array:
    split: Array = jax.lax.with_sharding_constraint(array, NamedSharding(layout.mesh, spec))
    return split


def gather_params(layout: Layout | None, params: Params) -> Params:
    """Parameters to compute with: brought together along the axis of the rows, split along others as they were."""
    if layout is None:
        return params
    rows = layout.mesh.axis_names[0]

    def gather(name: str, a: Array) -> Array:
        return _constrain(a, layout, PartitionSpec(*(_without(axes, rows) for axes in spec_of(layout, name, a))))

    return trees.map_with_names(gather, params, "params")


def _without(axes: Any, axis: str) -> Any:
    """An entry of a spec (a name, several or None) without this axis."""
    left = tuple(a for a in (axes if isinstance(axes, tuple) else (axes,)) if a not in (None, axis))
    return left or None


def place_leaves(layout: Layout | None, **of_state: Tree) -> tuple[Tree, ...]:
    """Parts of a training state, by their names in it, each leaf where it belongs."""
    if layout is None:
        return tuple(of_state.values())

    def put(name: str, a: Array) -> Array:
        return _constrain(a, layout, spec_of(layout, name, a))

    return tuple(trees.map_with_names(put, tree, name) for name, tree in of_state.items())


def place_state(layout: Layout | None, s: TrainState) -> TrainState:
    """A training state, each leaf where it belongs."""
    if layout is None:
        return s
    return TrainState(*place_leaves(layout, **s._asdict()))


# ---- around the program


def state_shardings(layout: Layout, state: TrainState) -> TrainState:
    """Where each leaf of a training state lies, from the state, or its shapes and dtypes."""
    shardings: TrainState = trees.map_with_names(
        lambda name, a: NamedSharding(layout.mesh, spec_of(layout, name, a)), state
    )
    return shardings


def init_shardings(layout: Layout | None, state: TrainState) -> dict[str, Any]:
    """Arguments of `jit` for the function that makes a state of these shapes."""
    if layout is None:
        return {}
    return {"in_shardings": layout.everywhere, "out_shardings": state_shardings(layout, state)}


def run_shardings(layout: Layout | None, state: TrainState) -> dict[str, Any]:
    """Arguments of `jit` for a run from a state of these shapes: `(state, data, epochs, steps) -> (state, history)`."""
    if layout is None:
        return {}
    of_state, whole = state_shardings(layout, state), layout.everywhere
    return {"in_shardings": (of_state, whole, whole, whole), "out_shardings": (of_state, whole)}


def buffer_shardings(layout: Layout | None, state: TrainState, buffer: Buffer) -> dict[str, Any]:
    """Arguments of `jit` for `(state, buffer, validation, steps) -> (state, row, ended)`."""
    if layout is None:
        return {}
    of_state, whole = state_shardings(layout, state), layout.everywhere
    of_buffer: Any = whole
    if buffer.mask is not None:  # each process has its own rows
        of_buffer = jax.tree.map(lambda a: whole, buffer)
        rows = layout.of_places
        of_buffer = of_buffer._replace(part=of_buffer.part._replace(x=rows, t=rows))
    return {"in_shardings": (of_state, of_buffer, whole, whole), "out_shardings": (of_state, whole, whole)}


def with_place_table(layout: Layout, state: TrainState) -> Layout:
    """The layout with its rule asked, once, for every leaf of such a state: what it says is what a program is of."""
    if layout.place is None:
        return layout
    specs: dict[str, PartitionSpec] = {}

    def ask(name: str, a: HasShape) -> None:
        if name.partition("/")[0] in PLACED:
            specs[_path(name)] = spec_of(layout, name, a)

    trees.map_with_names(ask, state)
    table: Any = PlaceTable(tuple(specs.items()))
    return Layout(layout.mesh, table)


def spec_of(layout: Layout, name: str, array: HasShape) -> PartitionSpec:
    """How a leaf of a training state is split, by its name in the state."""
    if layout.place is None or name.partition("/")[0] not in PLACED or trees.is_key(array):
        return PartitionSpec()
    path = _path(name)
    if path.startswith("state/"):  # that of the layers, beside the best parameters
        return PartitionSpec()
    spec = arguments.call("place", layout.place, path, jax.ShapeDtypeStruct(array.shape, array.dtype), what=OF_PLACE)
    return _check_spec(layout.mesh, path, array, spec)


def _path(name: str) -> str:
    """What a rule knows a leaf by: the best parameters have the names of the parameters, so they lie as these do."""
    first, _, rest = name.partition("/")
    if first != "best":
        return name
    which, _, rest = rest.partition("/")
    return f"{('params', 'state')[int(which)]}/{rest}"


def _check_spec(mesh: Mesh, path: str, array: HasShape, spec: object) -> PartitionSpec:
    """What a rule returned for a leaf, if the leaf can be split so."""
    what = f"place: expected a way to split {path} of shape {tuple(array.shape)}"
    if not isinstance(spec, PartitionSpec):
        got = arguments.describe_thing(spec)
        raise TypeError(f"place: expected a PartitionSpec for {path}, got {got}. Return jax.P() for what is not split.")
    if len(spec) > len(array.shape):
        raise ValueError(f"{what}, got {spec} of {len(spec)} axes. Return at most one entry per axis.")
    for size, axes in zip(array.shape, spec, strict=False):
        count = 1
        for axis in axes if isinstance(axes, tuple) else (axes,):
            if axis is not None and axis not in mesh.axis_names:
                raise ValueError(f"{what}, got {spec}. Use the axes of the mesh, {mesh.axis_names}.")
            count *= 1 if axis is None else mesh.shape[axis]
        if size % count:
            raise ValueError(f"{what}, got {spec}, which cuts {size} into {count}. Return jax.P() for this leaf.")
    return spec
