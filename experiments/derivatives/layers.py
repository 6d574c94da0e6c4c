"""Layers: each against its formula written out in JAX, by its parameters and by its inputs, padding left out."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import fnn
from experiments.derivatives import regimes
from experiments.derivatives.activations import IN_JAX
from experiments.derivatives.record import Kink, Part, Point
from fnn.kernels import random

Formula = Callable[[Any, Any, Any], Any]  # (params, x, given) -> y
KEY = 11


class LayerCase(NamedTuple):
    """How a layer is made, and the formula that it must be."""

    name: str
    layer: fnn.Layer
    formula: Formula
    mistakes: Mapping[str, Callable[[Any, Any, Any], Any]] = {}  # (at, given, dy) -> like at
    kinks: tuple[tuple[str, str, float], ...] = ()  # where, which side's derivative, and towards where from 0
    in_shape: tuple[int, ...] = (regimes.K,)
    categories: int = 0  # how many there are, where inputs are whole numbers, which have no derivative

    def inputs(self, x: Any) -> Any:
        """Numbers as this layer takes them: as they are, or categories made of their digits."""
        if not self.categories:
            return x
        return jnp.mod(jnp.floor(jnp.abs(1000 * jnp.asarray(x))), self.categories).astype(jnp.int32)


# ---- the formulas


def _dense(params: Any, x: Any, given: Any) -> Any:
    y = sum(x[:, i, None] * params["w"][i] for i in range(x.shape[1]))
    return y + params["b"] if "b" in params else y


def _columns(x: Any, columns: int) -> Any:
    """Which column each value of sparse rows is in: some are in two places of a row, and some in none."""
    rows, places = jnp.arange(x.shape[0])[:, None], jnp.arange(x.shape[1])[None]
    return (5 * rows + 2 * places) % columns


def of_values(layer: fnn.Layer) -> fnn.Layer:
    """A layer of sparse rows as a function of the values alone: those of columns' numbers have the derivative 0."""

    def init(key: Any, in_shape: Any) -> Any:
        return layer.init(key, (2, *in_shape))

    def forward(params: Any, state: Any, x: Any, key: Any, train: Any) -> Any:
        at = _columns(x, params["w"].shape[0]).astype(x.dtype)
        return layer.forward(params, state, jnp.stack([at, x], 1), key, train)

    def backward(params: Any, cache: Any, dy: Any) -> Any:
        dparams, dx = layer.backward(params, cache, dy)
        return dparams, dx[:, 1] + dx[:, 0]

    return fnn.Layer(f"of_values({layer})", init, forward, backward)


def _sparse_dense(params: Any, x: Any, given: Any) -> Any:
    columns = params["w"].shape[0]
    at, places = _columns(x, columns), jnp.arange(columns)
    rows = sum(jnp.where(at[:, k, None] == places, x[:, k, None], 0.0) for k in range(x.shape[1]))
    return _dense(params, rows, given)


def _prelu(params: Any, x: Any, given: Any) -> Any:
    return jnp.where(x > 0, x, 0.0) + params["a"] * jnp.where(x > 0, 0.0, x)


def _rrelu(params: Any, x: Any, given: Any) -> Any:
    drawn = _uniform(x, given["key"]).astype(x.dtype) / (24 / 5) + 1 / 8
    return jnp.where(x > 0, x, 0.0) + drawn * jnp.where(x > 0, 0.0, x)


def _uniform(x: Any, key: Any) -> Any:
    return random.uniform(jax.random.wrap_key_data(key), x.shape)


def dropped(rate: float) -> Formula:
    """Half of the numbers become 0, the others are as much larger."""

    def formula(params: Any, x: Any, given: Any) -> Any:
        return jnp.where(_uniform(x, given["key"]) >= rate, 1 / (1 - rate), 0.0).astype(x.dtype) * x

    return formula


def normalised(axes: Callable[[Any], Any], eps: float = 1e-5) -> Formula:
    """To mean 0 and variance 1 over some axes, true rows alone; then scale and offset."""

    def formula(params: Any, x: Any, given: Any) -> Any:
        over = axes(x)
        real = given["mask"].astype(x.dtype).reshape(-1, *[1] * (x.ndim - 1)) if 0 in over else jnp.ones_like(x)
        n = (real * jnp.ones_like(x)).sum(over, keepdims=True)
        centred = x - (real * x).sum(over, keepdims=True) / n
        deviation = jnp.sqrt((real * centred**2).sum(over, keepdims=True) / n + eps)
        return params.get("scale", 1.0) * centred / deviation + params.get("offset", 0.0)

    return formula


BATCH = normalised(lambda x: tuple(range(x.ndim - 1)))
FEATURES = normalised(lambda x: (x.ndim - 1,))
SPACE = normalised(lambda x: tuple(range(1, x.ndim - 1)))


def in_groups(groups: int) -> Formula:
    """Each group of channels is normalised over space and its own channels; then put side by side again."""

    def formula(params: Any, x: Any, given: Any) -> Any:
        over = normalised(lambda x: tuple(range(1, x.ndim)))
        parts = [over({}, part, given) for part in jnp.split(x, groups, -1)]
        return params.get("scale", 1.0) * jnp.concatenate(parts, -1) + params.get("offset", 0.0)

    return formula


def _root_mean_square(params: Any, x: Any, given: Any) -> Any:
    return params.get("scale", 1.0) * x / jnp.sqrt((x * x).sum(-1, keepdims=True) / x.shape[-1] + 1e-6)


def _looked_up(params: Any, x: Any, given: Any) -> Any:
    """A product with rows of 0 and 1."""
    return (x[..., None] == jnp.arange(len(params["table"]), dtype=x.dtype)).astype(params["table"].dtype) @ params[
        "table"
    ]


def _own(x: Any) -> Any:
    return jnp.sin(x) + 0.5 * x


def _series(params: Any, x: Any, given: Any) -> Any:
    return _dense(params[2], IN_JAX[fnn.tanh](_dense(params[0], x, given)), given)


def _rounds(params: Any, x: Any, given: Any) -> Any:
    for i in range(3):
        x = IN_JAX[fnn.tanh](_dense(jax.tree.map(lambda p, i=i: p[i], params[0]), x, given))
    return x


def _shortcut(params: Any, x: Any, given: Any) -> Any:
    return x + _dense(params[2], IN_JAX[fnn.sigmoid](_dense(params[0], x, given)), given)


def _branches(params: Any, x: Any, given: Any) -> tuple[Any, Any]:
    return _dense(params["a"], x, given), IN_JAX[fnn.tanh](_dense(params["b"][0], x, given))


def _side_by_side(params: Any, x: Any, given: Any) -> Any:
    return jnp.concatenate(_branches(params[0], x, given), 1)


def _sum(params: Any, x: Any, given: Any) -> Any:
    one, other = _branches(params[0], x, given)
    return one + other


def _second(params: Any, x: Any, given: Any) -> Any:
    return _branches(params[0], x, given)[1]


# ---- how they could be wrong


def _by_params(wrong: Callable[[Any, Any, Any, Any], Any]) -> Callable[[Any, Any, Any], Any]:
    """A wrong rule for `dx`, given params, x, dy and given."""
    return lambda at, given, dy: {"x": wrong(at["params"], at["x"], dy, given)}


def _norm_dx(mean: float, variance: float, correct: int = 0, axis: int = 0) -> Callable[[Any, Any, Any], Any]:
    """The rule of a normalisation with one of its terms dropped, or with n - 1 for n."""

    def rule(at: Any, given: Any, dy: Any) -> Any:
        x, n = at["x"], at["x"].shape[axis]
        centred = x - x.mean(axis, keepdims=True)
        r = 1 / jnp.sqrt((centred**2).mean(axis, keepdims=True) + 1e-5)
        x_hat, g = centred * r, dy * at["params"]["scale"]
        sums = mean * g.sum(axis, keepdims=True) + variance * x_hat * (g * x_hat).sum(axis, keepdims=True)
        params = {"scale": (dy * x_hat).sum(0), "offset": dy.sum(0)}
        return {"params": params, "x": r * (g - sums / (n - correct))}

    return rule


def _normal_mistakes(axis: int) -> dict[str, Callable[[Any, Any, Any], Any]]:
    return {
        "the mean's term dropped": _norm_dx(0.0, 1.0, axis=axis),
        "the variance's term dropped": _norm_dx(1.0, 0.0, axis=axis),
        "both dropped": _norm_dx(0.0, 0.0, axis=axis),
        "n - 1 for n": _norm_dx(1.0, 1.0, 1, axis),
        "over the other axis": _norm_dx(1.0, 1.0, axis=1 - axis),
    }


def _linear(dw: Any = None, db: Any = None, dx: Any = None) -> Callable[[Any, Any, Any], Any]:
    def rule(at: Any, given: Any, dy: Any) -> Any:
        x, w = at["x"], at["params"]["w"]
        params = {"w": (dw or (lambda x, dy: x.T @ dy))(x, dy), "b": (db or (lambda dy: dy.sum(0)))(dy)}
        return {"params": params, "x": (dx or (lambda dy, w: dy @ w.T))(dy, w)}

    return rule


DENSE_MISTAKES = {
    "dx by w, not transposed": _linear(dx=lambda dy, w: dy @ w),
    "dw transposed": _linear(dw=lambda x, dy: dy.T @ x),
    "dw by the first row alone": _linear(dw=lambda x, dy: x[:1].T @ dy[:1]),
    "db as a mean": _linear(db=lambda dy: dy.mean(0)),
    "db by the first row alone": _linear(db=lambda dy: dy[0]),
}


def _sparse(dw: Any = None, dx: Any = None) -> Callable[[Any, Any, Any], Any]:
    def rule(at: Any, given: Any, dy: Any) -> Any:
        x, w = at["x"], at["params"]["w"]
        c = _columns(x, len(w))
        by_w = (dw or (lambda c, x, dy: jnp.zeros_like(w).at[c].add(x[:, :, None] * dy[:, None])))(c, x, dy)
        by_x = (dx or (lambda c, x, dy: (w[c] * dy[:, None]).sum(-1)))(c, x, dy)
        return {"params": {"w": by_w, "b": dy.sum(0)}, "x": by_x}

    return rule


SPARSE_MISTAKES = {
    "dw set, not added": _sparse(dw=lambda c, x, dy: jnp.zeros((6, 3)).at[c].set(x[:, :, None] * dy[:, None])),
    "dw without the values": _sparse(
        dw=lambda c, x, dy: jnp.zeros((6, 3)).at[c].add(dy[:, None] * jnp.ones_like(x[:, :, None]))
    ),
    "dw of the next column": _sparse(
        dw=lambda c, x, dy: jnp.zeros((6, 3)).at[(c + 1) % 6].add(x[:, :, None] * dy[:, None])
    ),
    "dx without w": _sparse(dx=lambda c, x, dy: dy.sum(1, keepdims=True) * jnp.ones_like(x)),
}
PRELU_MISTAKES = {
    "da over the rows of the right side": lambda at, given, dy: {
        "params": {"a": (dy * jnp.maximum(at["x"], 0)).sum(0)},
        "x": jnp.where(at["x"] > 0, 1.0, at["params"]["a"]) * dy,
    },
    "da without x": lambda at, given, dy: {
        "params": {"a": jnp.where(at["x"] > 0, 0.0, dy).sum(0)},
        "x": jnp.where(at["x"] > 0, 1.0, at["params"]["a"]) * dy,
    },
}
MEAN_SLOPE = {
    "the mean slope, not the drawn": lambda at, given, dy: {
        "params": (),
        "x": jnp.where(at["x"] > 0, 1.0, 11 / 48) * dy,
    }
}
DROPOUT_MISTAKES = {
    "1 - rate left out": lambda at, given, dy: {
        "params": (),
        "x": jnp.where(_uniform(dy, given["key"]) >= 0.5, dy, 0.0),
    },
    "the other numbers": lambda at, given, dy: {
        "params": (),
        "x": jnp.where(_uniform(dy, given["key"]) < 0.5, 2 * dy, 0.0),
    },
    "nothing dropped": lambda at, given, dy: {"params": (), "x": dy},
}
RESIDUAL_MISTAKES = {
    "shortcut left out": lambda at, given, dy: dict(
        zip(("params", "x"), _backward(fnn.serial(*_INNER), at, given, dy), strict=True)
    )
}


def _rms_rule(mean: float = 1.0, correct: int = 0, power: int = 1) -> Callable[[Any, Any, Any], Any]:
    """The rule of the normalisation by the root mean square, with its second term spoiled, or a wrong power of `r`."""

    def rule(at: Any, given: Any, dy: Any) -> Any:
        x, n = at["x"], at["x"].shape[-1]
        r = 1 / jnp.sqrt((x * x).mean(-1, keepdims=True) + 1e-6)
        g = dy * at["params"]["scale"]
        sums = mean * x * r * (g * x * r).sum(-1, keepdims=True) / (n - correct)
        return {"params": {"scale": (dy * x * r).sum(0)}, "x": r**power * (g - sums)}

    return rule


RMS_MISTAKES = {
    "the second term dropped": _rms_rule(0.0),
    "n - 1 for n": _rms_rule(correct=1),
    "r squared": _rms_rule(power=2),
    "the mean taken off": _norm_dx(1.0, 1.0, axis=1),
}


def _of_formula(formula: Formula) -> Callable[[Any, Any, Any], Any]:
    """The derivatives of another formula than the layer's."""

    @partial(jax.jit, compiler_options=regimes.QUICK)
    def rule(at: Any, given: Any, dy: Any) -> Any:
        return jax.vjp(lambda at: formula(at["params"], at["x"], given), at)[1](dy)[0]

    return rule


GROUP_MISTAKES = {
    "one group": _of_formula(in_groups(1)),
    "each channel alone": _of_formula(in_groups(4)),
    "groups of channels that are not neighbours": _of_formula(
        lambda params, x, given: in_groups(2)(params, x[..., [0, 2, 1, 3]], given)[..., [0, 2, 1, 3]]
    ),
    "not over space": _of_formula(lambda params, x, given: FEATURES(params, x, given)),
}


def _table_rule(spoil: Callable[[Any, Any], Any]) -> Callable[[Any, Any, Any], Any]:
    """The sums over the rows of each category, with rows or `dy` spoiled."""

    def rule(at: Any, given: Any, dy: Any) -> Any:
        table = at["params"]["table"]
        x, dy = spoil(given["x"], dy)
        one_hot = (x[..., None] == jnp.arange(len(table), dtype=x.dtype)).astype(dy.dtype)
        return {"params": {"table": one_hot.reshape(-1, len(table)).T @ dy.reshape(-1, dy.shape[-1])}}

    return rule


EMBEDDING_MISTAKES = {
    "the category before": _table_rule(lambda x, dy: (x - 1, dy)),
    "the first of a row alone": _table_rule(lambda x, dy: (x[:, :1], dy[:, :1])),
    "the first row alone": _table_rule(lambda x, dy: (x[:1], dy[:1])),
    "features in reverse": _table_rule(lambda x, dy: (x, dy[..., ::-1])),
}
_INNER = (fnn.dense(5), fnn.sigmoid, fnn.dense(regimes.K))

# two branches of 3 outputs each, from one array of inputs
_BRANCHES = fnn.parallel(a=fnn.dense(3), b=fnn.serial(fnn.dense(3), fnn.tanh))


def _after_branches(spoil: Callable[[Any], tuple[Any, Any]]) -> Callable[[Any, Any, Any], Any]:
    """A rule in which the derivative that the branches get is wrong: `dy` to `(dy of a, dy of b)`."""

    def rule(at: Any, given: Any, dy: Any) -> Any:
        inner = {**at, "params": at["params"][0]}
        dparams, dx = _backward(
            _BRANCHES, inner, {**given, "state": given["state"][0]}, dict(zip("ab", spoil(dy), strict=True))
        )
        return {"params": (dparams, *at["params"][1:]), "x": dx}

    return rule


CONCATENATE_MISTAKES = {
    "parts in the other order": _after_branches(lambda dy: (dy[:, 3:], dy[:, :3])),
    "the second part left out": _after_branches(lambda dy: (dy[:, :3], 0 * dy[:, 3:])),
}
ADD_MISTAKES = {
    "one alone": _after_branches(lambda dy: (dy, 0 * dy)),
    "divided among them": _after_branches(lambda dy: (dy / 2, dy / 2)),
}
SELECT_MISTAKES = {
    "the other": _after_branches(lambda dy: (dy, 0 * dy)),
    "all of them": _after_branches(lambda dy: (dy, dy)),
}

LAYERS = [
    LayerCase("dense", fnn.dense(regimes.K), _dense, DENSE_MISTAKES),
    LayerCase("dense", fnn.dense(7), _dense),
    LayerCase("dense", fnn.dense(2, bias=False), _dense),
    LayerCase("sparse_dense", of_values(fnn.sparse_dense(6, 3)), _sparse_dense, SPARSE_MISTAKES),
    LayerCase("sparse_dense", of_values(fnn.sparse_dense(3, 1)), _sparse_dense),
    LayerCase("prelu", fnn.prelu(), _prelu, PRELU_MISTAKES, (("at 0", "the left side's", -1.0),)),
    LayerCase("rrelu", fnn.rrelu(), _rrelu, MEAN_SLOPE, (("at 0", "the left side's", -1.0),)),
    LayerCase("dropout", fnn.dropout(0.5), dropped(0.5), DROPOUT_MISTAKES),
    LayerCase("batch_norm", fnn.batch_norm(), BATCH, _normal_mistakes(0)),
    LayerCase("batch_norm", fnn.batch_norm(scale=False, offset=False), BATCH),
    LayerCase("batch_norm", fnn.batch_norm(), BATCH, in_shape=(2, 3, 2)),
    LayerCase("layer_norm", fnn.layer_norm(), FEATURES, _normal_mistakes(1)),
    LayerCase("rms_norm", fnn.rms_norm(), _root_mean_square, RMS_MISTAKES),
    LayerCase("rms_norm", fnn.rms_norm(scale=False), _root_mean_square, in_shape=(3, 4)),
    LayerCase("group_norm", fnn.group_norm(2), in_groups(2), GROUP_MISTAKES, in_shape=(2, 3, 4)),
    LayerCase("group_norm", fnn.group_norm(2, scale=False, offset=False), in_groups(2)),
    LayerCase("group_norm", fnn.group_norm(3, offset=False), SPACE, in_shape=(5, 3)),
    LayerCase("embedding", fnn.embedding(6, 3), _looked_up, EMBEDDING_MISTAKES, in_shape=(2,), categories=6),
    LayerCase("embedding", fnn.embedding(3, 4), _looked_up, in_shape=(2, 3), categories=3),
    LayerCase("serial", fnn.serial(fnn.dense(5), fnn.tanh, fnn.dense(3)), _series),
    LayerCase("repeat", fnn.repeat(fnn.serial(fnn.dense(regimes.K), fnn.tanh), 3), _rounds),
    LayerCase("residual", fnn.residual(*_INNER), _shortcut, RESIDUAL_MISTAKES),
    LayerCase(
        "parallel",
        fnn.serial(_BRANCHES, fnn.concatenate(), fnn.dense(2)),
        lambda params, x, given: _dense(params[2], _side_by_side(params, x, given), given),
    ),
    LayerCase("concatenate", fnn.serial(_BRANCHES, fnn.concatenate()), _side_by_side, CONCATENATE_MISTAKES),
    LayerCase("add", fnn.serial(_BRANCHES, fnn.add()), _sum, ADD_MISTAKES),
    LayerCase("select", fnn.serial(_BRANCHES, fnn.select("b")), _second, SELECT_MISTAKES),
    LayerCase("from_function", fnn.from_function(_own), lambda params, x, given: jnp.sin(x) + x / 2),
]


# ---- as records


def _forward(layer: fnn.Layer, at: Any, given: Any) -> Any:
    key = jax.random.wrap_key_data(given["key"])
    x = at["x"] if "x" in at else given["x"]
    return layer.forward(at["params"], given["state"], x, key, fnn.Rows(given["mask"]))


def _backward(layer: fnn.Layer, at: Any, given: Any, dy: Any) -> Any:
    return layer.backward(at["params"], _forward(layer, at, given)[2], dy)


def of_layer(
    kind: str, case: LayerCase, trained: Callable[[], tuple[Any, Any, Any]] | None = None, saturated: bool = True
) -> Part:
    """The record of a layer; its parameters are random, none of them 0."""
    params, state, _ = case.layer.init(jax.random.key(5), case.in_shape)
    params = jax.tree.map(lambda p: jnp.asarray(regimes.normal(*p.shape, seed=p.ndim)), params)
    draw = jax.random.key_data(jax.random.key(KEY))

    def point(x: Any, mask: Any) -> Point:
        return of_params(params, state, case.inputs(x), mask)

    def of_params(params: Any, state: Any, x: Any, mask: Any) -> Point:
        given = {"state": state, "mask": mask, "key": draw}
        return (
            Point({"params": params}, {**given, "x": x})
            if case.categories
            else Point({"params": params, "x": x}, given)
        )

    def after_training() -> Point:
        p, s, x = (trained or (lambda: regimes.trained_inputs(case.layer)))()
        return of_params(p, s, x, jnp.ones(len(x), bool))

    where = regimes.of_inputs(point, case.in_shape, saturated)
    if len(case.in_shape) == 1 and not case.categories:
        where["200 steps"] = after_training
    at_0 = point(jnp.zeros((regimes.ROWS, *case.in_shape)), jnp.ones(regimes.ROWS, bool))
    kinks = tuple(
        Kink(
            place, taken, at_0, {"params": jax.tree.map(jnp.zeros_like, params), "x": jnp.full_like(at_0.at["x"], side)}
        )
        for place, taken, side in case.kinks
    )
    return Part(
        kind,
        case.name,
        str(case.layer),
        lambda at, given: _forward(case.layer, at, given)[0],
        lambda at, given, dy: {
            name: slope
            for name, slope in zip(("params", "x"), _backward(case.layer, at, given, dy), strict=True)
            if name in at
        },
        lambda at, given: case.formula(at["params"], at["x"] if "x" in at else given["x"], given),
        where,
        case.mistakes,
        kinks,
    )


RECORDS = {f"{case.layer} on {case.in_shape}": partial(of_layer, "layer", case) for case in LAYERS}
