"""A run and its network in one file: `save` and `load`."""

import contextlib
import dataclasses
import errno
import os
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from fnn import arguments
from fnn.arguments import trees
from fnn.data import checks
from fnn.runs import History, Run
from fnn.storage import files, networks
from fnn.storage.files import FORMAT, read_kind
from fnn.storage.networks import Json
from fnn.types import Columns, Layer, PathLike, Tree


@arguments.explain_call
def save(path: PathLike, net: Layer, run: Run) -> None:
    """Write the best parameters and layer state of a run, its history and its network to one file.

    The optimizer's state is not in it: a loaded run predicts, or starts a new training (`fit(..., params=run.params,
    state=run.state)`). To go on with an interrupted training are checkpoints.

    All of the file is written, or nothing, and then the file that was there stays. A network in which there is
    something else than fnn's own layers (a function or a layer of your own, an initializer) is saved without its
    description; `load` has to be given it again.

    Args:
        path: where to; the usual ending is `.safetensors`. A file of that name is replaced, and its mode stays; of a
            link the file that it leads to. `~` is the home folder.
        net: the network that `run` is of.
        run: what `fit` returned.

    Raises:
        TypeError: params or state hold something else than dicts, tuples and arrays.
        ShapeError: the parameters are not those of this network.
        ValueError: the figures of the history are not real numbers, as many in each.
        OSError: the disk is full, the folder is missing or read-only, a device is in the place; says which contents
            are there now.
        ImportError: safetensors is not installed (`pip install "fnn[files]"`).

    >>> import fnn, jax, os, tempfile
    >>> net = fnn.serial(fnn.dense(2), fnn.relu)
    >>> params, state, _ = net.init(jax.random.key(0), (3,))
    >>> path = os.path.join(tempfile.mkdtemp(), "net.safetensors")
    >>> fnn.save(path, net, fnn.Run(params, state, None, None))
    >>> net, run = fnn.load(path)
    >>> print(net, bool((run.params[0]["w"] == params[0]["w"]).all()))
    serial(dense(2), relu) True
    """
    path = checks.path("path", path)
    arguments.instance("net", net, Layer, "Pass the network that was trained.")
    arguments.instance("run", run, Run, "Pass what fit returned.")
    history = None if run.history is None else run.history._asdict()
    if run.history is not None:
        _check_history(run.history)
    tree = {"params": run.params, "state": run.state, "history": history}
    description = {
        "kind": "run",
        "format": FORMAT,
        "in_shape": run.in_shape,
        "columns": run.columns and dataclasses.asdict(run.columns),
        "tree": _tree_to_json(tree, "run"),
        "printed": str(net),
    }
    trees.check_fits_network(net, run.params, run.state, run.in_shape, "run")
    constants: list[np.ndarray] = []
    unknown: list[str] = []
    description |= {"net": networks.to_json(net, constants, unknown), "unknown": unknown}
    tree["net"] = () if unknown else tuple(constants)
    files.write(_follow(path), trees.flatten_named(tree), description)


def _follow(path: str) -> str:
    """Where a link leads; other paths as they are."""
    if not os.path.islink(path):
        return path
    target = os.path.realpath(path)
    if os.path.islink(target):
        raise OSError(errno.ELOOP, f"{path}: expected a file, got a link that leads to itself. Name another file.")
    return target


@arguments.explain_call
def load(path: PathLike, net: Layer | None = None) -> tuple[Layer, Run]:
    """Read what `save` wrote: `net, run = load(path)`. `predict` of the two gives the bits that it gave before.

    Args:
        path: the file.
        net: the network, where the file could not describe it, or to use another that has the same parameters (its
            parameters are compared with the file's, what it computes is not).

    Returns:
        The network and a `Run`: `params` and `state` as JAX arrays of the dtypes they had, `history` as NumPy
        arrays, `train_state` None (the optimizer's state is not in the file).

    Raises:
        DamagedFile: the file is damaged, or of something else.
        ShapeError: the parameters are not those of the network; every leaf that differs is listed.
        ValueError: the network must be handed over; or the numbers have 64 bits and JAX is set to 32.
        FileNotFoundError, ImportError: there is no such file; safetensors is not installed.

    >>> import fnn, jax.numpy as jnp, os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "net.safetensors")
    >>> net = fnn.serial(jnp.sin)
    >>> fnn.save(path, net, fnn.Run(((),), ((),), None, None))
    >>> fnn.load(path)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: ...: expected a network of fnn's own layers, got serial(sin), in which sin is not. Hand ...
    >>> fnn.load(path, net=net)[0]
    serial(sin)
    """
    path = checks.path("path", path)
    if net is not None:
        arguments.instance("net", net, Layer, "Pass the network that was trained.")
    leaves, about = read_kind(path, "run")
    with files.naming_damage(path, "the description of a run"):
        saved = _parse(about, leaves)
    described = net is None
    net = networks.from_json(path, about, leaves) if net is None else net
    with files.naming_damage(path, "parameters of its network") if described else contextlib.nullcontext():
        trees.check_fits_network(net, saved.params, saved.state, saved.in_shape, os.fspath(path))
    params, state = _load_arrays(saved.params, "params"), _load_arrays(saved.state, "state")
    return net, saved._replace(params=params, state=state)


def _check_history(history: History) -> None:
    """Raise a ValueError where its figures are not real numbers, as many in each."""
    figures = jax.tree.leaves(history)
    kinds = sorted({f"{'complex' if np.iscomplexobj(a) else 'real'}{np.shape(a)}" for a in figures})
    if len(kinds) > 1 or "complex" in kinds[0]:
        raise ValueError(
            f"run.history: expected real numbers, as many in each figure, got {' and '.join(kinds)}. "
            "Pass the history that fit returned, or None."
        )


def _parse(about: Mapping[str, Any], leaves: dict[str, np.ndarray]) -> Run:
    """The run that a file describes, with arrays of NumPy; whatever is raised says what is wrong with the file."""
    unknown = about["unknown"]
    if not isinstance(about["printed"], str) or not isinstance(unknown, list) or set(map(type, unknown)) - {str}:
        raise TypeError("names that are no text")
    tree = about["tree"]
    params, state = (_tree_from_json(tree[name], name, leaves) for name in ("params", "state"))
    history: Any = tree["history"] and History(**_tree_from_json(tree["history"], "history", leaves))
    if history is not None:
        lists = [history.metrics, history.validation_metrics]
        if not all(isinstance(part, dict) for part in lists) or not hasattr(history.loss, "dtype"):
            raise TypeError("a history without a loss or metrics")
        _check_history(history)
    used = trees.flatten_named({"params": params, "state": state, "history": history})
    if surplus := [name for name in leaves if name not in used and not name.startswith("net/")]:
        raise ValueError(f"{len(surplus)} arrays that are no part of it, such as {surplus[0]}")
    in_shape: Any = None if about["in_shape"] is None else _shape_from_json(about["in_shape"])
    names = about.get("columns")  # an older file has none
    columns = names and Columns(*(names[part] and _names_from_json(names[part]) for part in ("x", "t")))
    nothing: Any = None
    return Run(params, state, history, nothing, in_shape, None, columns)


def _shape_from_json(shape: Json, depth: int = 0) -> Any:
    """The shape of one example: whole numbers; of several arrays shapes, by name or by place."""
    if depth <= networks.MOST_DEPTH and isinstance(shape, dict) and shape:
        return {name: _shape_from_json(part, depth + 1) for name, part in shape.items()}
    if depth <= networks.MOST_DEPTH and isinstance(shape, list):
        if shape and all(isinstance(part, (list, dict)) for part in shape):
            return tuple(_shape_from_json(part, depth + 1) for part in shape)
        if all(type(size) is int and 0 <= size < 2**31 for size in shape):
            return tuple(shape)
    raise ValueError(f"the shape {shape} of an example")


def _names_from_json(names: Json) -> tuple[Any, ...]:
    """Names of columns; of several inputs pairs, the way to a leaf and the names of its columns."""
    if any(isinstance(name, list) for name in names):
        return tuple((str(way), tuple(map(str, own))) for way, own in names)
    return tuple(map(str, names))


# ---- params, state and history: their structure, and whether they are those of the network


def _tree_to_json(tree: Tree, name: str) -> Json:
    """A tree of dicts, tuples and arrays as JSON: an array is 0, a tuple a list, None is null."""
    if tree is None or hasattr(tree, "dtype"):
        return None if tree is None else 0
    if type(tree) is tuple:
        return [_tree_to_json(part, f"{name}/{i}") for i, part in enumerate(tree)]
    if type(tree) is dict and all(type(key) is str for key in tree):
        return {key: _tree_to_json(part, f"{name}/{key}") for key, part in tree.items()}
    raise TypeError(
        f"{name}: expected dicts (with text as keys), tuples and arrays, got {type(tree).__name__}. "
        "Return these from the layer's init and forward."
    )


def _tree_from_json(structure: Json, name: str, leaves: dict[str, np.ndarray], depth: int = 0) -> Tree:
    """`_tree_to_json` backwards, with the arrays of those names."""
    if depth > networks.MOST_DEPTH:
        raise ValueError(f"a tree nested more than {networks.MOST_DEPTH} deep")
    if structure is None or type(structure) is int:
        return None if structure is None else leaves[name]
    if isinstance(structure, list):
        return tuple(_tree_from_json(part, f"{name}/{i}", leaves, depth + 1) for i, part in enumerate(structure))
    return {
        key: _tree_from_json(part, f"{name}/{trees.escape(key)}", leaves, depth + 1) for key, part in structure.items()
    }


def _load_arrays(tree: Tree, name: str) -> Tree:
    arrays = [trees.to_jax(leaf, array) for leaf, array in trees.flatten_named(tree, name).items()]
    return jax.tree.unflatten(jax.tree.structure(tree), arrays)
