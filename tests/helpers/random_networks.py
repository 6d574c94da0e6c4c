"""Random small networks with right derivatives, and random ones with a mistake in one rule, for `check_gradients`.

One structure is one program: its parameters, inputs, targets, weights and how long it was trained come from a seed
inside of it, so that many networks cost one compilation.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import fnn
from experiments.derivatives.regimes import QUICK
from fnn import losses, penalties

ROWS = 6


class Structure(NamedTuple):
    """A network, what it is trained for, and its inputs' shape."""

    net: Any
    loss: Any
    targets: str
    penalty: Any
    in_shape: tuple[int, ...]
    weighted: bool
    text: str


ACTIVATIONS = {
    **{"relu": fnn.relu, "leaky": fnn.leaky_relu(), "elu": fnn.elu(), "tanh": fnn.tanh, "sigmoid": fnn.sigmoid},
    **{"selu": fnn.selu, "gelu": fnn.gelu, "silu": fnn.silu, "softplus": fnn.softplus, "softsign": fnn.softsign},
    **{"prelu": fnn.prelu(), "jax.nn.relu": jax.nn.relu, "abs": jnp.abs, "rrelu": fnn.rrelu()},
}
LOSSES = {  # name: the loss, its targets, the outputs' last layer if it needs one
    "squared": (losses.squared_error, "reals", None),
    "absolute": (losses.absolute_error, "reals", None),
    "mean squared": (losses.mean_squared_error, "reals", None),
    "huber": (losses.huber(0.7), "reals", None),
    "smooth_l1": (losses.smooth_l1(0.5), "reals", None),
    "quantile": (losses.quantile(0.3), "reals", None),
    "asymmetric": (losses.asymmetric(2.0, 0.5), "reals", None),
    "hinge": (losses.hinge, "binary", None),
    "multiclass hinge": (losses.multiclass_hinge, "one-hot", None),
    "sparse multiclass hinge": (losses.sparse_multiclass_hinge, "labels", None),
    "softmax": (losses.softmax_cross_entropy, "one-hot", None),
    "sparse softmax": (losses.sparse_softmax_cross_entropy, "labels", None),
    "sigmoid": (losses.sigmoid_cross_entropy, "binary", None),
    "focal": (losses.softmax_focal(2.0), "one-hot", None),
    "probabilities": (losses.cross_entropy, "one-hot", fnn.softmax),
    "binary probabilities": (losses.binary_cross_entropy, "binary", fnn.sigmoid),
    "quartic": (
        losses.from_function(lambda y, t: ((y - t) ** 4.0).sum(-1), lambda y, t: 4 * (y - t) ** 3),
        "reals",
        None,
    ),
    "both": (losses.weighted_sum((0.5, losses.absolute_error), (2.0, losses.squared_error)), "reals", None),
}
PENALTIES = {
    "none": None,
    "l1": penalties.l1(0.1),
    "l2": penalties.l2(0.1),
    "elastic": penalties.elastic_net(0.1, 0.2),
}


def right(number: int) -> Structure:
    """The number-th structure."""
    rng = np.random.default_rng([15, number])
    pick = lambda names: list(names)[rng.integers(len(names))]  # noqa: E731
    outputs, layers, words = int(rng.integers(2, 4)), [], []

    def add(word: str, layer: Any) -> None:
        words.append(word)
        layers.append(layer)

    image = rng.random() < 0.25
    if image:
        add("conv2d", fnn.conv2d(int(rng.integers(1, 3)), 3, bias=rng.random() < 0.7))
        activation = pick(ACTIVATIONS)
        add(activation, ACTIVATIONS[activation])
        add("max_pool", fnn.max_pool(2)) if rng.random() < 0.7 else add("avg_pool", fnn.avg_pool(2))
        add("flatten", fnn.flatten())
    for _ in range(int(rng.integers(0, 2)) if image else int(rng.integers(1, 3))):
        add("dense", fnn.dense(int(rng.integers(2, 5)), bias=rng.random() < 0.8))
        chance = rng.random()
        if chance < 0.2:
            add("batch_norm", fnn.batch_norm())
        elif chance < 0.4:
            add("layer_norm", fnn.layer_norm())
        activation = pick(ACTIVATIONS)
        add(activation, ACTIVATIONS[activation])
        if rng.random() < 0.2:
            add("dropout", fnn.dropout(0.3))
    add("dense", fnn.dense(outputs))
    name = pick(LOSSES)
    loss, targets, last = LOSSES[name]
    if last is not None:
        add("probabilities", last)
    net = fnn.serial(*layers)
    if rng.random() < 0.12:
        net, words = fnn.mixed_precision(net), ["mixed:", *words]
    penalty = pick(PENALTIES) if rng.random() < 0.5 else "none"
    weighted = rng.random() < 0.3
    text = f"{number}: {' '.join(words)}; {name}; {penalty}{'; weights' if weighted else ''}"
    shape = (6, 6, 1) if image else (int(rng.integers(1, 4)),)
    return Structure(net, loss, targets, PENALTIES[penalty], shape, weighted, text)


def checked(structure: Structure, seeds: int, plain: bool = False) -> Any:
    """The check of so many networks of one structure, under `vmap`. `plain`: untrained, on standard normal inputs."""
    dtype = jnp.result_type(float)
    return jax.jit(jax.vmap(lambda seed: _checked(structure, seed, dtype, plain)), compiler_options=QUICK)(
        jnp.arange(seeds)
    )


def _checked(structure: Structure, seed: Any, dtype: Any, plain: bool) -> Any:
    keys = jax.random.split(jax.random.fold_in(jax.random.key(15), seed), 8)
    params, state, _ = structure.net.init(keys[0], structure.in_shape)
    params = jax.tree.map(lambda p: p.astype(dtype), params)
    x = jax.random.normal(keys[1], (ROWS, *structure.in_shape), dtype)
    if not plain:
        scale = lambda key, low, high: 10.0 ** jax.random.uniform(key, (), dtype, low, high)  # noqa: E731
        x = x * jnp.where(seed % 3 == 0, scale(keys[2], -3.0, 2.0), 1.0)
        size = jnp.where(seed % 5 == 1, scale(keys[3], -3.0, 0.5), 1.0)
        params = jax.tree.map(lambda p: p * size, params)
    y, _, _ = structure.net.forward(params, state, x, keys[4], True)
    t = _targets(structure.targets, keys[5], y)
    if not plain:
        gradient = fnn.autodiff(structure.net, structure.loss, structure.penalty)
        rate = jnp.where(seed % 4 == 2, 0.1, 0.0)

        def step(params: Any, _: Any) -> Any:
            grads = gradient(params, state, x, t, None, keys[4], True).grads
            return jax.tree.map(lambda p, g: p - (rate * jnp.clip(g, -1, 1)).astype(p.dtype), params, grads), None

        params, _ = jax.lax.scan(step, params, None, length=10)
        if structure.targets == "reals":  # derivatives that vanish: targets that equal the outputs
            t = jnp.where(seed % 10 == 7, structure.net.forward(params, state, x, keys[4], True)[0], t)
    weight = jnp.asarray([1.0, 0.0, 2.0, 0.5, 1.0, 0.0], dtype) if structure.weighted else None
    return fnn.check_gradients(
        structure.net, structure.loss, params, state, x, t, keys[4], True, structure.penalty, weight=weight, show=False
    )


def _targets(kind: str, key: Any, y: Any) -> Any:
    if kind == "reals":
        return jax.random.normal(key, y.shape, y.dtype)
    if kind == "binary":
        return jax.random.bernoulli(key, 0.5, y.shape).astype(y.dtype)
    labels = jax.random.randint(key, y.shape[:1], 0, y.shape[-1])
    return labels if kind == "labels" else jax.nn.one_hot(labels, y.shape[-1], dtype=y.dtype)


# ---- with a mistake in one rule


def wrong(number: int) -> Structure:
    """The number-th structure with a mistake: in the layer, the loss, or the penalty."""
    rng = np.random.default_rng([16, number])
    pick = lambda names: list(names)[rng.integers(len(names))]  # noqa: E731
    kind = list(MISTAKES)[number % len(MISTAKES)]
    layer, loss, penalty, targets = MISTAKES[kind](rng)
    smooth = ("tanh", "leaky", "elu", "softplus", "softsign", "prelu")
    first, second = pick(smooth), pick(smooth)
    name = pick([n for n in LOSSES if n not in ("hinge", "multiclass hinge", "sparse multiclass hinge")])
    if loss is None:
        loss, targets, last = LOSSES[name]
    else:
        name, last = "wrong", None
    layers = [
        fnn.dense(4),
        ACTIVATIONS[first],
        layer,
        ACTIVATIONS[second],
        fnn.dense(2),
        *([] if last is None else [last]),
    ]
    net = fnn.serial(*(part for part in layers if part is not None))
    return Structure(net, loss, targets, penalty, (3,), False, f"{number}: {kind}; {first} {second}; {name}")


def _spoilt(layer: Any, spoil: Any) -> Any:
    """`layer` whose backward is `spoil(dparams, dx, params, dy)`."""
    layer = fnn.as_layer(layer)

    def backward(params: Any, cache: Any, dy: Any) -> Any:
        return spoil(*layer.backward(params, cache, dy), params, dy)

    return layer._replace(spec="spoilt", backward=backward)


def _factor() -> float:
    return 1 + 1e-6 if jax.config.jax_enable_x64 else 1.01


def _some_layer(rng: Any) -> Any:
    some = [fnn.dense(4), fnn.tanh, fnn.relu, fnn.leaky_relu(), fnn.elu(), fnn.gelu, fnn.prelu(), fnn.layer_norm()]
    return some[rng.integers(len(some))]


def _in_layer(spoil: Any, *kinds: Any) -> Any:
    return lambda rng: (_spoilt(kinds[rng.integers(len(kinds))] if kinds else _some_layer(rng), spoil), None, None, "")


def _on(name: str, change: Any) -> Any:
    return lambda dp, dx, p, dy: ({**dp, name: change(dp[name])}, dx)


def _in_loss(change: Any) -> Any:
    def make(rng: Any) -> Any:
        some = [losses.squared_error, losses.absolute_error, losses.huber(0.7), losses.quantile(0.3)]
        loss = some[rng.integers(len(some))]
        return None, loss._replace(grad=lambda y, t: change(loss.grad(y, t))), None, "reals"

    return make


def _in_penalty(change: Any) -> Any:
    def make(rng: Any) -> Any:
        penalty = [penalties.l1(0.1), penalties.l2(0.1), penalties.elastic_net(0.1, 0.2)][rng.integers(3)]
        return None, None, penalty._replace(grad=lambda p: jax.tree.map(change, penalty.grad(p))), ""

    return make


def _own(init: Any, forward: Any, backward: Any, state: Any = None) -> Any:
    def start(key: Any, shape: Any) -> Any:
        return (
            {name: jnp.full(shape, value) for name, value in init.items()},
            jax.tree.map(lambda v: jnp.asarray(v, jnp.result_type(float)), state or ()),
            shape,
        )

    return fnn.Layer("own", start, lambda p, s, x, key, train: (forward(p, s, x), s, (s, x)), backward)


def _hidden(layer: Any) -> Any:
    return lambda rng: (layer, None, None, "")


def _on_all() -> Any:
    """l2 on every number, whose derivative leaves out the biases: 0 where they are 0."""
    square = lambda p: 0.1 * sum((leaf**2).sum() for leaf in jax.tree.leaves(p))  # noqa: E731
    weights = lambda p: jax.tree.map(lambda leaf: 0.2 * leaf if leaf.ndim > 1 else 0 * leaf, p)  # noqa: E731
    return fnn.types.Penalty("on all", square, weights)


def _transposed(d: Any) -> Any:
    return jnp.swapaxes(d, -1, -2)


MISTAKES = {
    "dx: sign": _in_layer(lambda dp, dx, p, dy: (dp, -dx)),
    "dx: factor": _in_layer(lambda dp, dx, p, dy: (dp, dx * _factor())),
    "dx: left out": _in_layer(lambda dp, dx, p, dy: (dp, 0 * dx)),
    "dx: dy squared": _in_layer(lambda dp, dx, p, dy: (dp, dx * dy)),
    "dx: of the next row": _in_layer(lambda dp, dx, p, dy: (dp, jnp.roll(dx, 1, 0))),
    "dx: one number dropped": _in_layer(lambda dp, dx, p, dy: (dp, dx.at[0, 1].set(0))),
    "dw: sign": _in_layer(_on("w", jnp.negative), fnn.dense(4)),
    "dw: factor": _in_layer(_on("w", lambda d: d * _factor()), fnn.dense(4)),
    "dw: transposed": _in_layer(_on("w", _transposed), fnn.dense(4)),
    "db: left out": _in_layer(_on("b", jnp.zeros_like), fnn.dense(4)),
    "db: mean over the rows": _in_layer(_on("b", lambda d: d / ROWS), fnn.dense(4)),
    "scale of a norm: sign": _in_layer(_on("scale", jnp.negative), fnn.layer_norm(), fnn.batch_norm()),
    "mixed precision: factor 1.1": _in_layer(
        lambda dp, dx, p, dy: (dp, 1.1 * dx), fnn.mixed_precision(fnn.dense(4)), fnn.mixed_precision(fnn.tanh)
    ),
    "inside mixed precision: factor 1.1": lambda rng: (
        fnn.mixed_precision(_spoilt(fnn.dense(4), _on("w", lambda d: d * jnp.asarray(1.1, d.dtype)))), None, None, ""
    ),
    "loss: factor": _in_loss(lambda d: d * _factor()),
    "loss: sign": _in_loss(jnp.negative),
    "loss: half": _in_loss(lambda d: d / 2),
    "loss: one output alone": _in_loss(lambda d: d.at[:, 1:].set(0)),
    "penalty: factor": _in_penalty(lambda d: d * 1.01),
    "penalty: left out": _in_penalty(jnp.zeros_like),
    "penalty: sign forgotten": _in_penalty(jnp.abs),
    "hidden by 1: dx without the factor": _hidden(
        _own({"a": 1.0}, lambda p, s, x: p["a"] * x, lambda p, c, dy: ({"a": (c[1] * dy).sum(0)}, dy))
    ),
    "hidden by 1: the factor twice": _hidden(
        _own({"a": 1.0}, lambda p, s, x: p["a"] * x, lambda p, c, dy: ({"a": (c[1] * dy).sum(0)}, p["a"] ** 2 * dy))
    ),
    "hidden by 1: a power": _hidden(
        _own({"a": 1.0}, lambda p, s, x: p["a"] ** 3 * x,
             lambda p, c, dy: ({"a": 3 * (c[1] * dy).sum(0)}, p["a"] ** 3 * dy))
    ),
    "hidden by 0: dw without the bias": _hidden(
        _own({"w": 0.7, "b": 0.0}, lambda p, s, x: (x + p["b"]) * p["w"],
             lambda p, c, dy: ({"w": (c[1] * dy).sum(0), "b": (p["w"] * dy).sum(0)}, p["w"] * dy))
    ),
    "hidden by 0: a term times the bias": _hidden(
        _own({"b": 0.0}, lambda p, s, x: x + p["b"] * x**2,
             lambda p, c, dy: ({"b": (c[1] ** 2 * dy).sum(0)}, dy))
    ),
    "hidden by 0: cosine of the bias": _hidden(
        _own({"b": 0.0}, lambda p, s, x: x + jnp.sin(p["b"]), lambda p, c, dy: ({"b": dy.sum(0)}, dy))
    ),
    "hidden by a running variance of 1": _hidden(
        _own({"a": 0.8}, lambda p, s, x: p["a"] * x / jnp.sqrt(s["variance"]),
             lambda p, c, dy: ({"a": (c[1] * dy / jnp.sqrt(c[0]["variance"])).sum(0)}, p["a"] * dy / c[0]["variance"]),
             {"variance": np.ones(4)})
    ),
    "hidden by 0: a penalty on biases": lambda rng: (None, None, _on_all(), ""),
}  # fmt: skip
