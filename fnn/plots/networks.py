"""Pictures of what a network has learnt: classes, boundaries, hidden units, mistakes."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from fnn import arguments
from fnn.data import checks
from fnn.data.splits import strata
from fnn.inference.prediction import Trained, checked_run, predict
from fnn.plots.axes import INK, Axes, Figure, axes, finish
from fnn.types import ArrayLike, Layer

CLASS_COLOURS = (
    "#c0392b",
    "#2467a6",
    "#3f8f4f",
    "#8e5ea2",
    "#d68910",
    "#5d6d7e",
    "#16a085",
    "#b5527d",
)  # label 0 is red


def classes(x: ArrayLike, t: ArrayLike, *, names: Sequence[str] | None = None, ax: Axes | None = None) -> Figure:
    """The rows in the plane, coloured by class: red for label 0, blue for label 1.

    Args:
        x: `(rows, 2)`.
        t: class numbers `(rows,)`, or one-hot rows `(rows, classes)`.
        names: what the legend calls the classes.
        ax: draw here.

    Returns:
        The matplotlib figure.

    >>> from fnn import plots
    >>> figure = plots.classes([[0.0, 1.0], [1.0, 0.0]], [0, 1], names=["outer", "inner"])
    >>> [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    ['outer', 'inner']
    """
    points = _points("x", x, 2)
    labels = _labels("t", t, len(points), names)
    figure, ax = axes(ax)
    _scatter(ax, points, labels, names)
    ax.set(xlabel="$x_1$", ylabel="$x_2$", aspect="equal")
    return finish(figure, ax)


def decision_boundary(
    net: Layer,
    run: Trained,
    x: ArrayLike,
    t: ArrayLike,
    *,
    span: tuple[float, float] = (-2.0, 2.0),
    grid: int = 200,
    names: Sequence[str] | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Which class a network gives to each point of the plane, with the rows on top.

    Args:
        net: a network from two inputs to one output per class, probabilities or logits.
        run: what `fit` returned, or anything with `params` and `state`.
        x: `(rows, 2)`; `t`: class numbers or one-hot rows.
        span: from where to where, in both directions.
        grid: points in each direction.
        names: what the legend calls the classes.
        ax: draw here.

    Returns:
        The matplotlib figure.

    >>> import fnn, jax
    >>> from fnn import plots
    >>> net = fnn.serial(fnn.dense(2))
    >>> params, state, _ = net.init(jax.random.key(0), (2,))
    >>> run = fnn.Run(params, state, None, None)
    >>> figure = plots.decision_boundary(net, run, [[0.0, 1.0], [1.0, 0.0]], [0, 1], grid=20)
    >>> print(figure.axes[0].get_xlim() == (-2, 2))
    True
    """
    rows, low_high = _points("x", x, 2), arguments.as_numpy("span", span, "a pair (low, high)")
    labels, grid = _labels("t", t, len(rows), names), arguments.whole_number("grid", grid, 2)
    known = low_high.shape == (2,) and low_high.dtype.kind in "fiu" and np.isfinite(low_high).all()
    if not known or not low_high[0] < low_high[1]:
        raise ValueError(f"span: expected a pair (low, high), got {arguments.describe_thing(span)}. Pass (-2.0, 2.0).")
    run = checked_run(net, run)
    figure, ax = axes(ax)
    ticks = np.linspace(float(low_high[0]), float(low_high[1]), grid)
    leaves = jax.tree.leaves(run.params)
    points = np.stack(np.meshgrid(ticks, ticks), -1).reshape(-1, 2).astype(leaves[0].dtype if leaves else np.float32)
    y = predict(net, run, points)
    if y.ndim != 2 or y.shape[1] < 2:
        raise ValueError(
            f"decision_boundary: expected one output per class, got outputs of shape {y.shape[1:]}. "
            "End the network with dense(2)."
        )
    for k in range(y.shape[1]):
        # how far class k is ahead of the best other one: 0 on its boundary
        ahead = (y[:, k] - np.delete(y, k, axis=1).max(1)).reshape(grid, grid)
        if ahead.max() > 0:
            ax.contourf(ticks, ticks, ahead, levels=[0, ahead.max()], colors=[_class_colour(k)], alpha=0.16)
        if ahead.min() < 0 < ahead.max():
            ax.contour(ticks, ticks, ahead, levels=[0], colors=[INK], linewidths=1.2)
    _scatter(ax, rows, labels, names)
    ax.plot([], [], color=INK, linewidth=1.2, label="boundary")
    ax.set(xlabel="$x_1$", ylabel="$x_2$", xlim=tuple(low_high), ylim=tuple(low_high), aspect="equal")
    return finish(figure, ax)


def hidden_space(
    hidden: ArrayLike,
    t: ArrayLike,
    *,
    plane: tuple[Any, float] | None = None,
    elevation: float = 10,
    azimuth: float = -40,
    names: Sequence[str] | None = None,
    ax: Axes | None = None,
) -> Figure:
    """The rows as a layer of three hidden units sees them, one axis a unit.

    Args:
        hidden: the layer's outputs, `(rows, 3)`.
        t: class numbers `(rows,)`, or one-hot rows `(rows, classes)`.
        plane: `(normal, offset)` of the plane `normal · h + offset = 0`, drawn where it crosses the unit cube.
        elevation: the view's, in degrees.
        azimuth: the view's, in degrees.
        names: what the legend calls the classes.
        ax: draw here; axes made with `projection="3d"`.

    Returns:
        The matplotlib figure.

    >>> from fnn import plots
    >>> figure = plots.hidden_space([[0.1, 0.2, 0.9], [0.8, 0.7, 0.1]], [0, 1], plane=([1, 1, -1], -0.5))
    >>> print(figure.axes[0].elev, figure.axes[0].azim)
    10.0 -40.0
    """
    points = _points("hidden", hidden, 3)
    labels, cut = _labels("t", t, len(points), names), None if plane is None else _checked_plane(plane)
    elevation, azimuth = arguments.number("elevation", elevation), arguments.number("azimuth", azimuth)
    figure, ax = axes(ax, "3d")
    if cut is not None:
        _plane(ax, *cut)
    _scatter(ax, points, labels, names)
    ax.set(xlabel="hidden unit 1", ylabel="hidden unit 2", zlabel="hidden unit 3")
    ax.view_init(elev=elevation, azim=azimuth)
    return finish(figure, ax)


def _checked_plane(plane: Any) -> tuple[np.ndarray, float]:
    hint = "Pass ([1, 1, -1], -0.5), say."
    if not isinstance(plane, (tuple, list)) or len(plane) != 2:
        raise TypeError(f"plane: expected (normal, offset), got {arguments.describe_thing(plane)}. {hint}")
    normal = arguments.as_numpy("plane[0]", plane[0], "three numbers")
    if normal.shape != (3,) or normal.dtype.kind not in "fiu" or not np.isfinite(normal).all() or not normal.any():
        got = arguments.describe_thing(plane[0])
        raise ValueError(f"plane[0]: expected three finite numbers, not all 0, got {got}. {hint}")
    return normal.astype(float), arguments.number("plane[1]", plane[1])


def _plane(ax: Axes, normal: np.ndarray, offset: float) -> None:
    """The part of a plane within the unit cube: cut the cube's twelve edges, join the cuts in order."""
    corners = np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)], float)
    side = corners @ normal + offset
    cuts = np.array(
        [
            (corners[a] * side[b] - corners[b] * side[a]) / (side[b] - side[a])
            for a in range(8)
            for b in range(a)
            if np.abs(corners[a] - corners[b]).sum() == 1 and side[a] * side[b] < 0
        ]
    )
    if len(cuts) < 3:
        return
    spokes = cuts - cuts.mean(0)
    along = spokes[0] / np.linalg.norm(spokes[0])
    across = np.cross(normal / np.linalg.norm(normal), along)
    order = np.argsort(np.arctan2(spokes @ across, spokes @ along))
    from mpl_toolkits.mplot3d.art3d import Poly3DCollection

    sheet = Poly3DCollection([cuts[order]], facecolor=INK, edgecolor=INK, alpha=0.14, label="separating plane")
    ax.add_collection3d(sheet)


def confusion(
    targets: ArrayLike, predicted: ArrayLike, *, names: Sequence[str] | None = None, ax: Axes | None = None
) -> Figure:
    """How often each class (rows) is taken for each (columns). Only the mistakes are coloured: the right ones would
    drown them.

    Args:
        targets: class numbers from 0, shape (rows,).
        predicted: class numbers, likewise, such as `outputs.argmax(-1)`.
        names: one per class; else their numbers.
        ax: draw here.

    Returns:
        The matplotlib figure.

    Raises:
        ValueError: not as many of the one as of the other; not class numbers; too few names.

    >>> from fnn import plots
    >>> figure = plots.confusion([0, 0, 1, 1], [0, 1, 1, 1], names=["cat", "dog"])
    >>> [text.get_text() for text in figure.axes[0].texts]
    ['1', '1', '2']
    """
    targets, predicted = arguments.as_numpy("targets", targets), arguments.as_numpy("predicted", predicted)
    if targets.shape != predicted.shape or targets.ndim != 1:
        raise ValueError(
            f"confusion: expected as many class numbers predicted as targets, got shapes {predicted.shape} and "
            f"{targets.shape}. Pass outputs.argmax(-1)."
        )
    for name, numbers in (("targets", targets), ("predicted", predicted)):
        if not np.issubdtype(numbers.dtype, np.integer) or numbers.min(initial=0) < 0:
            raise ValueError(f"{name}: expected class numbers from 0, got {numbers.dtype}. Pass integers.")
    size = 1 + int(max(targets.max(initial=0), predicted.max(initial=0)))
    _check_names(names, size)
    size = size if names is None else len(names)
    counts = np.zeros((size, size), int)
    np.add.at(counts, (targets, predicted), 1)
    wrong = counts * (1 - np.eye(size, dtype=int))
    figure, ax = axes(ax)
    shown = ax.imshow(wrong, cmap="Oranges", vmin=0, vmax=max(1, wrong.max()))
    for t, p in np.argwhere(counts):
        colour = "#999999" if t == p else "white" if wrong[t, p] > 0.6 * wrong.max() else "black"
        ax.text(p, t, str(counts[t, p]), ha="center", va="center", fontsize=8, color=colour)
    labels = [str(k) for k in range(size)] if names is None else names
    ax.set(xlabel="predicted class", ylabel="class")
    ax.set_xticks(range(size), labels, rotation=45 if any(len(label) > 3 for label in labels) else 0)
    ax.set_yticks(range(size), labels)
    ticks = np.unique(np.linspace(0, max(1, wrong.max()), 5).astype(int))
    figure.colorbar(shown, ax=ax, label="rows taken for another class", shrink=0.9, ticks=ticks)
    return figure


def _scatter(ax: Axes, points: np.ndarray, labels: np.ndarray, names: Sequence[str] | None) -> None:
    """The rows, one colour and one entry of the legend a class."""
    for k in np.unique(labels):
        style = {"color": _class_colour(k), "edgecolor": "white", "linewidth": 0.6, "s": 34}
        ax.scatter(*points[labels == k].T, label=names[k] if names else f"class {k}", **style)


def _labels(name: str, t: ArrayLike, count: int, names: Sequence[str] | None) -> np.ndarray:
    """The class of each row, a whole number from 0."""
    labels = strata(name, checks.rows(name, t), count)
    if labels.min() < 0:
        raise ValueError(f"{name}: expected class numbers from 0, got {labels.min()}. Number them 0, 1, ….")
    _check_names(names, 1 + int(labels.max()))
    return labels.astype(int)


def _check_names(names: Sequence[str] | None, size: int) -> None:
    if names is None:
        return
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
        raise TypeError(f"names: expected a list of words, got {arguments.describe_thing(names)}. Name each class.")
    if len(names) < size:
        raise ValueError(f"names: expected {size}, one per class, got {len(names)}. Name all.")


def _class_colour(k: int) -> str:
    return CLASS_COLOURS[k % len(CLASS_COLOURS)]


def _points(name: str, x: ArrayLike, dimensions: int) -> np.ndarray:
    points = np.asarray(checks.rows(name, x))
    if points.ndim != 2 or points.shape[1] != dimensions:
        raise ValueError(
            f"{name}: expected points of shape (rows, {dimensions}), got {points.shape}. "
            f"Pass {dimensions} numbers per row."
        )
    return points
