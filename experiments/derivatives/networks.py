"""Whole networks, to depth 10, and whole costs: against the same written out in JAX, layer after layer."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

import fnn
from experiments.derivatives import regimes
from experiments.derivatives.activations import IN_JAX
from experiments.derivatives.layers import BATCH, FEATURES, LayerCase, dropped, of_layer
from experiments.derivatives.losses import LOSSES
from experiments.derivatives.record import Part, Point

K = regimes.K
_sigmoid, _tanh, _relu, _elu = (IN_JAX[a] for a in (fnn.sigmoid, fnn.tanh, fnn.relu, fnn.elu()))


def _dense(params: Any, x: Any) -> Any:
    y = jnp.einsum("ni,ij->nj", x, params["w"])
    return y + params["b"] if "b" in params else y


def _round(params: Any, i: int) -> Any:
    return jax.tree.map(lambda p: p[i], params)


def _inner(given: Any, *path: int) -> Any:
    """What is given to a layer deep in a network: its own key."""
    key = jax.random.wrap_key_data(given["key"])
    for i in path:
        key = jax.random.fold_in(key, i)
    return {**given, "key": jax.random.key_data(key)}


# ---- networks and what they compute

SMALL = fnn.serial(fnn.dense(3), fnn.sigmoid, fnn.dense(2))


def _small(p: Any, x: Any, given: Any) -> Any:
    return _dense(p[2], _sigmoid(_dense(p[0], x)))


DEEP = fnn.serial(fnn.dense(K), fnn.tanh, fnn.repeat(fnn.serial(fnn.dense(K), fnn.tanh), 8), fnn.dense(3))


def _deep(p: Any, x: Any, given: Any) -> Any:
    x = _tanh(_dense(p[0], x))
    for i in range(8):
        x = _tanh(_dense(_round(p[2], i)[0], x))
    return _dense(p[3], x)


BLOCK = fnn.residual(fnn.layer_norm(), fnn.dense(K), fnn.elu(), fnn.dropout(0.3), fnn.dense(K))
RESIDUAL = fnn.serial(fnn.dense(K), fnn.repeat(BLOCK, 4), fnn.layer_norm(), fnn.dense(3))


def _residual(p: Any, x: Any, given: Any) -> Any:
    x = _dense(p[0], x)
    for i in range(4):
        norm, first, _, _, second = _round(p[1], i)
        h = _elu(_dense(first, FEATURES(norm, x, given)))
        x = x + _dense(second, dropped(0.3)((), h, _inner(given, 1, i, 3)))
    return _dense(p[3], FEATURES(p[2], x, given))


ROUND = fnn.serial(fnn.dense(K, bias=False), fnn.batch_norm(), fnn.tanh)
NORMED = fnn.serial(
    fnn.dense(K, bias=False), fnn.batch_norm(), fnn.relu, fnn.repeat(ROUND, 8), fnn.dropout(0.2), fnn.dense(3)
)


def _normed(p: Any, x: Any, given: Any) -> Any:
    x = _relu(BATCH(p[1], _dense(p[0], x), given))
    for i in range(8):
        w, norm, _ = _round(p[3], i)
        x = _tanh(BATCH(norm, _dense(w, x), given))
    return _dense(p[5], dropped(0.2)((), x, _inner(given, 4)))


NETWORKS = [
    LayerCase("serial", SMALL, _small, in_shape=(2,)),
    LayerCase("serial", DEEP, _deep),
    LayerCase("serial", RESIDUAL, _residual),
    LayerCase("serial", NORMED, _normed),
]
TITLES = [
    "2-3-2, sigmoid",
    "depth 10: dense, tanh, repeat",
    "depth 10: repeat of residual, layer_norm, elu, dropout",
    "depth 10: repeat of batch_norm, tanh; relu, dropout",
]


def _trained(net: fnn.Layer) -> Callable[[], tuple[Any, Any, Any]]:
    def train() -> tuple[Any, Any, Any]:
        x, t = map(jnp.asarray, regimes.iris())
        x, t = (x[:, :2], t[:, :2]) if net is SMALL else (x, t)
        params, state = regimes.train(net, fnn.losses.softmax_cross_entropy, x, t)
        return params, state, x[::30]

    return train


def _of_network(case: LayerCase, title: str) -> Part:
    part = of_layer("network", case, _trained(case.layer), saturated=case.layer in (SMALL, DEEP))
    # a channel that never varies has derivative 0 behind a batch_norm, and what is computed there is rounding alone
    empty = ("zero", "constant rows", "one row") if case.layer is NORMED else ()
    return part._replace(title=title, regimes={k: v for k, v in part.regimes.items() if k not in empty})


# ---- costs: fnn.backprop and fnn.autodiff, with weights, a penalty, a reduction


def _cost(case: Any, reduction: str, penalty: Any) -> Part:
    net = fnn.serial(fnn.dense(3), fnn.tanh, fnn.dense(3))
    makers = [make(net, case.loss, penalty, reduction) for make in (fnn.backprop, fnn.autodiff)]
    params, state, _ = net.init(jax.random.key(2), (K,))

    def gradient(make: Any, at: Any, given: Any) -> Any:
        return make(at["params"], state, given["x"], given["t"], given["weight"], None, True)

    def reference(at: Any, given: Any) -> Any:
        p = at["params"]
        values = case.value(_dense(p[2], _tanh(_dense(p[0], given["x"]))), given["t"])
        total = jnp.where(given["weight"] > 0, given["weight"] * values, 0.0).sum()
        total = total / given["weight"].sum() if reduction == "mean" else total
        return total + 0.1 * sum((layer["w"] ** 2).sum() for layer in p if layer) if penalty else total

    def forward(at: Any, given: Any) -> Any:
        g = gradient(makers[1], at, given)
        return (g.total / g.weight if reduction == "mean" else g.total) + (penalty(at["params"]) if penalty else 0.0)

    def point(rows: int, weight: Any = None, level: float = 1.0) -> Point:
        x, t = regimes.normal(rows, K), regimes.normal(rows, 3, seed=4)
        t = jax.nn.softmax(jnp.asarray(t)) if case.targets == "distributions" else jnp.asarray(t)
        weight = jnp.ones(rows) if weight is None else jnp.asarray(weight)
        return Point({"params": params}, {"x": jnp.asarray(level * x), "t": t, "weight": weight})

    def by_hand(at: Any, given: Any, dy: Any) -> Any:
        return {"params": jax.tree.map(lambda g: g * dy, gradient(makers[0], at, given).grads)}

    def unweighted(at: Any, given: Any, dy: Any) -> Any:
        return by_hand(at, {**given, "weight": jnp.ones_like(given["weight"])}, dy)

    return Part(
        "cost",
        "backprop",
        f"backprop of {case.loss}, {reduction}" + (", l2" if penalty else ""),
        forward,
        by_hand,
        reference,
        {
            "random": lambda: point(5, [1.0, 0.5, 2.0, 3.0, 0.1]),
            "masked rows": lambda: point(5, [1.0, 0.0, 2.0, 3.0, 0.0]),
            "saturated": lambda: point(5, level=20.0),
            "one row": lambda: point(1),
            "4,096 rows": lambda: point(regimes.MANY),
        },
        {"weights ignored": unweighted},
    )


_LOSSES = {case.name: case for case in LOSSES}
RECORDS = {title: partial(_of_network, case, title) for case, title in zip(NETWORKS, TITLES, strict=True)} | {
    "backprop of squared_error, sum": partial(_cost, _LOSSES["squared_error"], "sum", None),
    "backprop of softmax_cross_entropy, mean, l2": partial(
        _cost, _LOSSES["softmax_cross_entropy"], "mean", fnn.penalties.l2(0.1)
    ),
}
