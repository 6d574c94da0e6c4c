"""Wrong rules, made from a right one: the errors that happen when a derivative is derived and written down by hand."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from experiments.derivatives.record import Part, Point

Rule = Callable[[Any, Any, Any], Any]


def planted(part: Part, rule: Rule, point: Point) -> dict[str, Rule]:
    """What kind of error -> the rule with it; those of the part's own kind, and those that any rule may have."""
    shape = jax.eval_shape(part.forward, *point).shape
    dy = 1.0 + np.arange(np.prod(shape, dtype=int)).reshape(shape)  # of softmax equal ones leave nothing
    wrong: dict[str, Rule] = dict(part.mistakes)
    for i, (path, leaf) in enumerate(jax.tree.leaves_with_path(rule(*point, dy))):
        if not np.any(leaf):
            continue  # a derivative that is 0 everywhere: there is nothing to spoil
        name = ".".join(str(getattr(k, "key", getattr(k, "idx", k))) for k in path)
        for error, spoil in _spoils(leaf).items():
            wrong[f"d{name}: {error}"] = _on_leaf(rule, i, spoil)
    wrong["dy left out"] = lambda at, given, dy: rule(at, given, np.ones_like(dy))
    wrong["dy squared"] = lambda at, given, dy: rule(at, given, np.square(dy))
    if point.given.get("mask") is not None and len(point.given["mask"]) > 1:
        wrong["dy of the next row"] = lambda at, given, dy: rule(at, given, np.roll(dy, 1, 0))
        wrong["mask ignored"] = _unmasked(rule)
    return wrong


def _spoils(leaf: Any) -> dict[str, Callable[[Any], Any]]:
    spoils: dict[str, Callable[[Any], Any]] = {
        "sign": lambda g: -g,
        "factor 1 + 1e-6": lambda g: g * (1 + 1e-6),
        "left out": lambda g: 0 * g,
    }
    rows = leaf.shape[0] if leaf.ndim else 1
    if rows > 1:
        spoils["n against n - 1"] = lambda g: g * (rows - 1) / rows
        spoils["in reverse order"] = lambda g: np.flip(g, 0)
    if leaf.size > 1:
        spoils["one number dropped"] = lambda g: np.where(np.abs(g) == np.abs(g).max(), 0.0, g)
    if leaf.ndim >= 2 and min(leaf.shape[-2:]) > 1:
        spoils["transposed"] = lambda g: np.swapaxes(g, -1, -2).reshape(g.shape)
    if leaf.ndim >= 2 and leaf.shape[-1] > 1:
        spoils["wrong axis"] = lambda g: np.broadcast_to(g.mean(-1, keepdims=True), g.shape)
    return spoils


def _on_leaf(rule: Rule, i: int, spoil: Callable[[Any], Any]) -> Rule:
    def wrong(at: Any, given: Any, dy: Any) -> Any:
        leaves, tree = jax.tree.flatten(rule(at, given, dy))
        return jax.tree.unflatten(tree, [spoil(np.asarray(g)) if j == i else g for j, g in enumerate(leaves)])

    return wrong


def _unmasked(rule: Rule) -> Rule:
    """Padding rows that count as if they were real: with some derivative of their own, and in every mean."""

    def wrong(at: Any, given: Any, dy: Any) -> Any:
        strange = np.cos(np.arange(dy.size)).reshape(dy.shape)
        mask = np.asarray(given["mask"]).reshape(-1, *[1] * (dy.ndim - 1))
        return rule(at, {**given, "mask": np.ones_like(given["mask"])}, np.where(mask, dy, strange))

    return wrong
