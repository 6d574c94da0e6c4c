"""Penalties: each against its formula for one array of weights, and biases left alone."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import fnn
from experiments.derivatives import regimes
from experiments.derivatives.record import Kink, Part, Point


class PenaltyCase(NamedTuple):
    """How a penalty is made, its value and its derivative for one array of weights."""

    name: str
    penalty: Any
    value: Callable[[Any], Any]
    derivative: Callable[[Any], Any]
    mistakes: Mapping[str, Callable[[Any], Any]]
    kinked: bool = True


def _size(w: Any) -> Any:
    return jnp.where(w > 0, w, jnp.where(w < 0, -w, 0.0 * w)).sum()


L1_MISTAKES = {"one side alone": lambda w: 0.3 * (w > 0).astype(w.dtype), "the square's": lambda w: 0.6 * w}
BOTH_MISTAKES = {"the first alone": lambda w: 0.2 * jnp.sign(w), "the second alone": lambda w: 1.4 * w}
PENALTIES = [
    PenaltyCase(
        "l2",
        fnn.penalties.l2(0.3),
        lambda w: 0.3 * (w * w).sum(),
        lambda w: 0.6 * w,
        {"2 left out": lambda w: 0.3 * w, "coefficient left out": lambda w: 2 * w},
        kinked=False,
    ),
    PenaltyCase("l1", fnn.penalties.l1(0.3), lambda w: 0.3 * _size(w), lambda w: 0.3 * jnp.sign(w), L1_MISTAKES),
    PenaltyCase(
        "elastic_net",
        fnn.penalties.elastic_net(0.2, 0.7),
        lambda w: 0.2 * _size(w) + 0.7 * (w * w).sum(),
        lambda w: 0.2 * jnp.sign(w) + 1.4 * w,
        BOTH_MISTAKES,
    ),
]


def _weights(level: float, rows: int = regimes.ROWS) -> Point:
    """A layer's worth of weights, a bias, and another layer."""
    w, v = (regimes.normal(rows, regimes.K, seed=s) for s in (1, 2))
    b = regimes.normal(regimes.K, seed=3)
    return Point({"params": jax.tree.map(lambda a: jnp.asarray(level * a), ({"w": w, "b": b}, (), {"w": v}))}, {})


def _trained(penalty: Any) -> Point:
    x, t = map(jnp.asarray, regimes.iris())
    net = fnn.serial(fnn.dense(regimes.K), fnn.tanh, fnn.dense(3))
    return Point({"params": regimes.train(net, fnn.losses.softmax_cross_entropy, x, t, penalty)[0]}, {})


def of_penalty(case: PenaltyCase) -> Part:
    """The record of a penalty."""

    def reference(at: Any, given: Any) -> Any:
        return sum(case.value(layer["w"]) for layer in at["params"] if layer)

    def rule(derivative: Callable[[Any], Any]) -> Callable[[Any, Any, Any], Any]:
        def by_hand(at: Any, given: Any, dy: Any) -> Any:
            each = {"w": derivative, "b": jnp.zeros_like}
            layers = tuple({k: each[k](a) * dy for k, a in layer.items()} if layer else () for layer in at["params"])
            return {"params": layers}

        return by_hand

    def own(at: Any, given: Any, dy: Any) -> Any:
        return {"params": jax.tree.map(lambda g: g * dy, case.penalty.grad(at["params"]))}

    levels = {"random": 1.0, "zero": 0.0, "1000": 1000.0, "1e-6": 1e-6}
    where = {name: lambda level=level: _weights(level) for name, level in levels.items()}
    where |= {"one row": lambda: _weights(1.0, 1), "4,096 rows": lambda: _weights(1.0, regimes.MANY)}
    every = rule(lambda w: case.derivative(w))
    mistakes = {name: rule(wrong) for name, wrong in case.mistakes.items()}
    mistakes["biases too"] = lambda at, given, dy: jax.tree.map(lambda a: case.derivative(a) * dy, at)
    mistakes["the first layer alone"] = lambda at, given, dy: {
        "params": (every(at, given, dy)["params"][0], *jax.tree.map(jnp.zeros_like, at["params"][1:]))
    }
    kink = Kink("w = 0", "0, the mean of both sides", _weights(0.0, 2), None)
    return Part(
        "penalty",
        case.name,
        str(case.penalty),
        lambda at, given: case.penalty.value(at["params"]),
        own,
        reference,
        {**where, "200 steps": lambda: _trained(case.penalty)},
        mistakes,
        (kink,) if case.kinked else (),
    )


RECORDS = {str(case.penalty): partial(of_penalty, case) for case in PENALTIES}
