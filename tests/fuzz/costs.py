"""Random losses with targets that fit them, penalties and metrics."""

from collections.abc import Callable
from random import Random
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import fnn
from fnn import losses, penalties

Targets = Callable[[np.random.Generator, int, int], np.ndarray]  # (generator, rows, outputs)


def _numbers(rng: np.random.Generator, rows: int, outputs: int) -> np.ndarray:
    return rng.normal(size=(rows, outputs)).astype("float32")


def _labels(rng: np.random.Generator, rows: int, outputs: int) -> np.ndarray:
    return rng.integers(0, outputs, rows).astype("int32")


def _one_hot(rng: np.random.Generator, rows: int, outputs: int) -> np.ndarray:
    return np.eye(outputs, dtype="float32")[_labels(rng, rows, outputs)]


def _binary(rng: np.random.Generator, rows: int, outputs: int) -> np.ndarray:
    return rng.integers(0, 2, (rows, outputs)).astype("float32")


def _boxes(rng: np.random.Generator, rows: int, outputs: int) -> np.ndarray:
    corner = rng.uniform(-1, 0, (rows, 2))
    return np.concatenate([corner, corner + rng.uniform(0.5, 1.5, (rows, 2))], 1).astype("float32")


def _as_boxes(y: jax.Array) -> jax.Array:
    """Any four numbers as a box that has an area and meets the targets."""
    return jnp.concatenate([-0.5 + 0.3 * jnp.tanh(y[:, :2]), 0.5 + 0.3 * jnp.tanh(y[:, 2:])], 1)


class Kind(NamedTuple):
    """Losses of one kind: how many outputs, which targets, what the network ends with."""

    outputs: tuple[int, int]
    targets: Targets
    ending: Any
    losses: dict[str, Callable[[Random, int], Any]]


def _fixed(*all_losses: Any) -> dict[str, Callable[[Random, int], Any]]:
    return {str(loss): lambda r, k, loss=loss: loss for loss in all_losses}


def _weights(k: int) -> tuple[float, ...]:
    return tuple(0.5 + 0.5 * i for i in range(k))


CE = losses.sparse_softmax_cross_entropy
KINDS = {
    "numbers": Kind(
        (1, 3),
        _numbers,
        None,
        {
            **_fixed(losses.squared_error, losses.half_squared_error, losses.mean_squared_error, losses.absolute_error),
            "huber": lambda r, k: losses.huber(r.choice([0.5, 1.0])),
            "smooth_l1": lambda r, k: losses.smooth_l1(0.7),
            "quantile": lambda r, k: losses.quantile(0.3),
            "asymmetric": lambda r, k: losses.asymmetric(2.0, 1.0),
            "weighted_sum": lambda r, k: losses.weighted_sum((1.0, losses.squared_error), (0.5, losses.huber(1.0))),
            "own square": lambda r, k: lambda y, t: ((y - t) ** 2).sum(-1),
            "own softplus": lambda r, k: lambda y, t: jax.nn.softplus(y - t).sum(-1),
            "own log cosh": lambda r, k: lambda y, t: jnp.log(jnp.cosh(y - t)).mean(-1),
            "outputs": lambda r, k: lambda y, t: y.sum(-1),
            "minus outputs": lambda r, k: lambda y, t: (t - y).mean(-1),
            "half the outputs": lambda r, k: losses.from_function(lambda y, t: 0.5 * y[:, 0]),
            "targets alone": lambda r, k: lambda y, t: t.sum(-1),
            "zero": lambda r, k: lambda y, t: jnp.zeros(len(y)),
            "by hand": lambda r, k: losses.from_function(lambda y, t: (y * t).sum(-1), lambda y, t: t),
        },
    ),
    "labels": Kind(
        (2, 4),
        _labels,
        None,
        {
            **_fixed(CE, losses.sparse_multiclass_hinge),
            "focal": lambda r, k: losses.sparse_softmax_focal(r.choice([1.0, 2.0])),
            "smoothed": lambda r, k: losses.smoothed(CE, 0.1),
            "class_weighted": lambda r, k: losses.class_weighted(CE, _weights(k)),
            "both": lambda r, k: losses.class_weighted(losses.smoothed(CE, 0.2), _weights(k)),
        },
    ),
    "label probabilities": Kind((2, 3), _labels, fnn.softmax, _fixed(losses.sparse_cross_entropy)),
    "one-hot": Kind(
        (2, 4),
        _one_hot,
        None,
        {
            **_fixed(losses.softmax_cross_entropy, losses.multiclass_hinge),
            "focal": lambda r, k: losses.softmax_focal(2.0, alpha=_weights(k)),
            "smoothed": lambda r, k: losses.smoothed(losses.softmax_cross_entropy, 0.1),
        },
    ),
    "probabilities": Kind((2, 3), _one_hot, fnn.softmax, _fixed(losses.cross_entropy)),
    "binary": Kind(
        (1, 1),
        _binary,
        None,
        {
            **_fixed(losses.sigmoid_cross_entropy, losses.hinge),
            "focal": lambda r, k: losses.sigmoid_focal(2.0, alpha=0.3),
            "class_weighted": lambda r, k: losses.class_weighted(losses.sigmoid_cross_entropy, (1.0, 3.0)),
            "smoothed": lambda r, k: losses.smoothed(losses.sigmoid_cross_entropy, 0.1),
        },
    ),
    "binary probabilities": Kind((1, 2), _binary, fnn.sigmoid, _fixed(losses.binary_cross_entropy)),
    "boxes": Kind((4, 4), _boxes, _as_boxes, _fixed(losses.iou_loss, losses.giou_loss, losses.diou_loss)),
}
OFTEN = ["numbers", "numbers", "numbers", "labels", "labels", *KINDS]


class Cost(NamedTuple):
    """A loss, what it wants of a network, and how it reads."""

    loss: Any
    outputs: int
    targets: Targets
    ending: Any
    about: str


def random_cost(r: Random) -> Cost:
    """A loss."""
    kind = KINDS[r.choice(OFTEN)]
    outputs = r.randint(*kind.outputs)
    name = r.choice(list(kind.losses))
    return Cost(kind.losses[name](r, outputs), outputs, kind.targets, kind.ending, name)


PENALTIES: dict[str, Callable[[], Any]] = {
    "l1": lambda: penalties.l1(0.01),
    "l2": lambda: penalties.l2(0.05),
    "elastic_net": lambda: penalties.elastic_net(0.01, 0.02),
}
METRICS: dict[str, Callable[[Any, Any], Any]] = {
    "first": lambda y, t: y[:, 0],
    "size": lambda y, t: (y**2).sum(-1),
}
