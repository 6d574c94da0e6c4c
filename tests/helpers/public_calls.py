"""One call that works of each public function, and of which kind each of its arguments is (`wrong_values.FINE`)."""

import os
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy import sparse

import fnn
from fnn import losses, metrics, penalties, plots, schedules
from fnn.data.tables.columns import Numbers
from fnn.data.tables.targets import Target
from tests.helpers.wrong_values import NET, NUMBER, PARAMS, RUN, SCALED, STATE, TABLE

X = np.random.default_rng(0).normal(size=(7, 3)).astype("float32")
LABELS = np.arange(7) % 2
ROWS = X.sum(1, keepdims=True)
SCE, SQUARED, SGD = losses.sparse_softmax_cross_entropy, losses.squared_error, optax.sgd(0.1)
KEY = jax.random.key(0)
OF_ALL = penalties.l2(0.1, mask=lambda params: jax.tree.map(lambda a: True, params))
OUTPUTS = np.full((7, 2), 0.5, "float32")
ONE_HOT = np.eye(2, dtype="float32")[LABELS]
A_TABLE = fnn.Table((Numbers("a", "number", (0.0,), (1.0,), False),), (Target("t", None),), True)
BOXES = np.tile(np.array([0.0, 0, 1, 1], "float32"), (7, 1))


CALLABLE_WITH_ONE = {"returns none", "returns text", "returns complex", "returns int", "returns numpy", "fails"}
CALLABLE_WITH_ONE |= {"returns zeros of numpy", "builtin", "ufunc", "penalty", "activation"}
CALLABLE_WITH_TWO = CALLABLE_WITH_ONE - {"builtin", "penalty", "activation"} | {"loss"}


@dataclass
class Call:
    """A function with arguments that work; `kinds`: the kind of each argument, or of what is inside of one."""

    function: Any
    arguments: dict[str, Any]
    kinds: dict[Any, str]
    use: Any = None  # what is done with the result
    fine: dict[Any, set[str]] = field(default_factory=dict)  # more that is right


def layer(shape):
    """Initial parameters, both passes, and the way back."""

    def use(made):
        made = fnn.as_layer(made)
        params, state, _ = made.init(KEY, shape)
        for train in (False, True):
            y, _, cache = made.forward(params, state, jnp.ones((2, *shape)), KEY, train)
        made.backward(params, cache, jnp.ones_like(y))

    return use


def several(shapes, row_shape=False):
    """As `layer`, of several inputs."""
    shapes = (3,) if row_shape else shapes

    def use(made):
        params, state, _ = made.init(KEY, shapes)
        x = jax.tree.map(lambda s: jnp.ones((2, *s)), shapes, is_leaf=lambda s: isinstance(s, tuple))
        y, _, cache = made.forward(params, state, x, KEY, True)
        made.backward(params, cache, jax.tree.map(jnp.ones_like, y))

    return use


def loss(outputs, targets):
    """Value and derivative."""

    def use(made):
        made.value(outputs, targets), made.grad(outputs, targets)

    return use


def schedule(made):
    """A learning rate."""
    made(3), made(jnp.int32(3))


def penalty(made):
    """Value and derivative."""
    made(PARAMS), made.grad(PARAMS)


def optimizer(made):
    """Two steps."""
    params = {"w": jnp.ones(3)}
    made.update(params, made.update(params, made.init(params), params)[1], params)


def trained(training):
    """A run of two epochs."""
    data = fnn.Data(fnn.Part(X, LABELS))
    training.run(training.init(0, data), data, 2)


def gradient(made):
    """Of a batch."""
    made(PARAMS, STATE, jnp.asarray(X), jnp.asarray(LABELS))


def activation(made):
    """Value and derivative."""
    made(jnp.ones(3)), made.derivative(jnp.ones(3)), made.backward(jnp.ones(3), jnp.ones(3))


FITTED = {
    "net": "net",
    "loss": "loss like",
    "optimizer": "optimizer",
    "data": "stream or pair",
    ("data", 0): "inputs",
    ("data", 1): "labels",
    "epochs": "count or 0",
    "key": "key",
    "validation": "validation",
    ("validation", 0): "inputs",
    ("validation", 1): "labels",
    "weights": "weights",
    "checkpoint": "folder",
    "checkpoint_seconds": "host number",
    "progress": "flag",
}
TRAINING = {
    "batch_size": "count or none",
    "settings": "settings",
    ("settings", "a"): "setting",
    "monitor": "choice",
    "mode": "choice",
    "patience": "count or none",
    "min_delta": "host number",
    "metrics": "metrics",
    ("metrics", "m"): "metric",
    "penalty": "penalty",
    "gradient": "gradient",
    "reduction": "choice",
    "shuffle": "flag",
}
MESH = {"mesh": "mesh or none", "place": "place"}
STUDY = {
    "width": "count or none",
    "devices": "devices",
    "memory": "host number",
    "on_segment": "on_segment",
    "executor": "executor",
}
BASE = {"net": NET, "loss": SCE, "optimizer": SGD, "data": (X, LABELS), "epochs": 1}
FIT = BASE | {
    "validation": (X, LABELS),
    "settings": {"a": 1.0},
    "metrics": {"m": fnn.accuracy},
    "checkpoint_seconds": 1.0,
    "progress": False,
}
FOUND = None


def found():
    """A study, made once."""
    global FOUND
    if FOUND is None:
        FOUND = fnn.sweep(
            NET, SCE, lambda s: optax.sgd(s["lr"]), (X, LABELS), over={"lr": [0.1, 0.2]}, epochs=1, progress=False
        )
    return FOUND


def calls():
    """All of them, by name; made anew."""
    return {**_core(), **_layers(), **_losses(), **_metrics(), **_plots(), **_others()}


def _core():
    studies = {k: v for k, v in FIT.items() if k != "settings"} | {"width": 1, "memory": 1e9}
    no_validation = {k: v for k, v in studies.items() if k != "validation"}
    of_folds = {k: v for k, v in FITTED.items() if "validation" not in k} | {
        k: v for k, v in TRAINING.items() if k != "patience"
    }
    return {
        "fit": Call(
            fnn.fit,
            FIT,
            FITTED
            | TRAINING
            | {"params": "params", "state": "params", "on_nan": "choice", "compile_effort": "choice"}
            | {"on_segment": "on_segment"}
            | MESH,
            fine={"monitor": set(), "mode": {"none"}, "state": {"none"}},
        ),
        "sweep": Call(
            fnn.sweep,
            studies | {"over": {"a": [0.1, 0.2]}, "optimizer": lambda s: optax.sgd(s["a"])},
            FITTED | STUDY | {"over": "over", ("over", "a"): "choices", "keep": "choice"},
            fine={"memory": {"none"}, "optimizer": set()},
        ),
        "sweep training": Call(
            fnn.sweep,
            {name: value for name, value in studies.items() if name != "metrics"}
            | {"over": {"seed": [0, 1]}, "training": {"settings": {"a": 1.0}, "metrics": {"m": fnn.accuracy}}},
            {("training", *(k if isinstance(k, tuple) else (k,))): v for k, v in TRAINING.items()},
            fine={("training", "mode"): {"none"}},
        ),
        "cross_validate": Call(
            fnn.cross_validate,
            no_validation | {"folds": 2},
            of_folds_only(of_folds)
            | STUDY
            | {
                "table": "table or none",
                "folds": "count",
                "repeats": "count",
                "stratify": "flag",
                "groups": "groups",
                "standardise": "flag",
                "over": "over",
                "refit": "flag",
            },
            fine={
                "memory": {"none"},
                "stratify": {"none"},
                "over": {"none"},
                "folds": set(),
                "mode": {"none"},
                ("data", 0): {"column"},
            },
        ),
        "ensemble": Call(
            fnn.ensemble,
            studies | {"members": 2},
            FITTED | STUDY | {"members": "count"},
            fine={"memory": {"none"}},
        ),
        "trainer": Call(
            fnn.trainer,
            {"net": NET, "loss": SCE, "optimizer": SGD, "metrics": {"m": fnn.accuracy}},
            {k: FITTED[k] for k in ("net", "loss", "optimizer")}
            | {k: v for k, v in TRAINING.items() if k not in ("settings", ("settings", "a"), "patience", "min_delta")}
            | MESH,
            trained,
            fine={"mode": {"none"}},
        ),
        "predict": Call(
            fnn.predict,
            {"net": NET, "run": RUN, "x": X, "reduce": None, "combine": None},
            {
                "net": "net",
                "run": "run",
                "x": "inputs",
                "batch_size": "count",
                "device": "flag",
                "reduce": "function",
                "combine": "function",
                "mesh": "mesh or none",
            },
            fine={
                "x": set(),
                "reduce": {"none", "activation", "returns complex"},
                "combine": {"none", "loss", "returns complex"},
            },
        ),
        "predictor": Call(
            fnn.predictor,
            {"net": NET, "run": RUN, "reduce": None},
            {"net": "net", "run": "run", "batch_size": "count", "reduce": "function", "mesh": "mesh or none"},
            lambda serve: serve(X),
            fine={"reduce": {"none", "activation", "returns complex"}, "net": {"network"}},
        ),
        "evaluate": Call(
            fnn.evaluate,
            {"net": NET, "run": RUN, "data": (X, LABELS), "metrics": {"m": fnn.accuracy}},
            {
                "net": "net",
                "run": "run",
                "data": "stream or pair",
                ("data", 0): "inputs",
                ("data", 1): "labels",
                "metrics": "metrics",
                ("metrics", "m"): "metric",
                "batch_size": "count",
                "mesh": "mesh or none",
            },
        ),
        "laplace": Call(
            fnn.laplace,
            {"net": NET, "run": RUN, "data": (X, LABELS), "loss": SCE, "penalty": OF_ALL, "noise": None},
            {
                "net": "net",
                "run": "run",
                "data": "stream or pair",
                ("data", 0): "inputs",
                ("data", 1): "labels",
                "loss": "loss of classes",
                "penalty": "penalty",
                "noise": "positive",
                "reduction": "choice",
            },
            lambda made: made.predict(X),
            fine={"noise": {"none"}, "data": set()},
        ),
        "autodiff": Call(fnn.autodiff, {"net": NET, "loss": SCE}, _gradient_kinds(), gradient),
        "backprop": Call(fnn.backprop, {"net": NET, "loss": SCE}, _gradient_kinds(), gradient),
        "check_gradients": Call(
            fnn.check_gradients,
            {
                "net": NET,
                "loss": SCE,
                "params": PARAMS,
                "state": STATE,
                "x": X,
                "t": LABELS,
                "key": KEY,
                "weight": np.ones(7, "float32"),
                "show": False,
            },
            _gradient_kinds()
            | {
                "params": "tree",
                "state": "tree",
                "x": "inputs",
                "t": "labels",
                "key": "key",
                "train": "flag",
                "weight": "weights",
                "show": "flag",
            },
            fine={"params": set(), "state": set(), "key": {"none"}, "x": {TABLE}},
        ),
        "numerical_gradient": Call(  # a penalty is such a function
            fnn.numerical_gradient,
            {"function": lambda p: (p["w"] ** 2).sum(), "params": {"w": jnp.ones(2)}},
            {"function": "function", "params": "tree", "order": "choice", "step": "step or none"},
            fine={"function": {"penalty"}, "params": set(), "step": {NUMBER}},
        ),
    }


def of_folds_only(kinds):
    """Without what is inside of `settings`."""
    return {k: v for k, v in kinds.items() if k not in ("settings", ("settings", "a"))}


def _gradient_kinds():
    return {"net": "net", "loss": "loss like", "penalty": "penalty", "reduction": "choice"}


def _layers():
    image, row = layer((8, 8, 2)), layer((3,))
    window = {"window": "window", "stride": "window", "padding": "padding"}
    return {
        "dense": Call(
            fnn.dense,
            {"features": 2},
            {"features": "count", "bias": "flag", "weight_init": "initial or none", "bias_init": "initial"},
            row,
        ),
        "sparse_dense": Call(
            fnn.sparse_dense,
            {"columns": 4, "features": 2},
            {
                "columns": "count",
                "features": "count",
                "bias": "flag",
                "weight_init": "initial or none",
                "bias_init": "initial",
            },
            layer((2, 3)),
        ),
        "conv2d": Call(
            fnn.conv2d,
            {"features": 2, "window": 3},
            window
            | {
                "features": "count",
                "dilation": "window",
                "groups": "count",
                "bias": "flag",
                "weight_init": "initial or none",
                "bias_init": "initial",
            },
            image,
        ),
        "conv1d": Call(
            fnn.conv1d,
            {"features": 2, "window": 3},
            {"features": "count", "window": "count", "stride": "count", "padding": "padding", "dilation": "count"}
            | {"groups": "count", "bias": "flag", "weight_init": "initial or none", "bias_init": "initial"},
            layer((8, 3)),
        ),
        "conv_transpose2d": Call(
            fnn.conv_transpose2d,
            {"features": 2, "window": 3},
            window
            | {"features": "count", "dilation": "window", "groups": "count", "bias": "flag"}
            | {"weight_init": "initial or none", "bias_init": "initial"},
            image,
        ),
        "upsample": Call(fnn.upsample, {"factor": 2}, {"factor": "window", "method": "choice"}, image),
        "embedding": Call(
            fnn.embedding,
            {"size": 4, "features": 2},
            {"size": "count", "features": "count", "weight_init": "initial"},
            row,
        ),
        "flatten": Call(fnn.flatten, {}, {}, image),
        "max_pool": Call(fnn.max_pool, {"window": 2}, window, image, {"stride": {"none"}}),
        "avg_pool": Call(fnn.avg_pool, {"window": 2}, window, image, {"stride": {"none"}}),
        "global_avg_pool": Call(fnn.global_avg_pool, {}, {}, image),
        "batch_norm": Call(
            fnn.batch_norm, {}, {"momentum": "unit", "eps": "positive", "scale": "flag", "offset": "flag"}, row
        ),
        "layer_norm": Call(fnn.layer_norm, {}, {"eps": "positive", "scale": "flag", "offset": "flag"}, row),
        "group_norm": Call(
            fnn.group_norm,
            {"groups": 1},
            {"groups": "count", "eps": "positive", "scale": "flag", "offset": "flag"},
            row,
        ),
        "rms_norm": Call(fnn.rms_norm, {}, {"eps": "positive", "scale": "flag"}, row),
        "dropout": Call(fnn.dropout, {"rate": 0.5}, {"rate": "rate"}, row),
        "gaussian_noise": Call(fnn.gaussian_noise, {"deviation": 0.5}, {"deviation": "number"}, row),
        "rescale": Call(fnn.rescale, {}, {"factor": "real", "offset": "real"}, image),
        "random_flip": Call(fnn.random_flip, {}, {"rate": "unit", "vertical": "flag"}, image),
        "random_shift": Call(fnn.random_shift, {"most": 1}, {"most": "count or 0"}, image),
        "random_crop": Call(fnn.random_crop, {"height": 4, "width": 4}, {"height": "count", "width": "count"}, image),
        "serial": Call(
            fnn.serial,
            {"layers": (fnn.dense(3), fnn.tanh)},
            {("layers", 0): "layer like", ("layers", 1): "layer like"},
            row,
        ),
        "residual": Call(fnn.residual, {"layers": (fnn.dense(3),)}, {("layers", 0): "layer like"}, row),
        "repeat": Call(fnn.repeat, {"layer": fnn.dense(3), "times": 2}, {"layer": "layer like", "times": "count"}, row),
        "parallel": Call(
            fnn.parallel,
            {"layers": (fnn.dense(3), fnn.tanh)},
            {("layers", 0): "layer like", ("layers", 1): "layer like"},
            several({}, row_shape=True),
        ),
        "concatenate": Call(fnn.concatenate, {}, {}, several({"a": (3,), "b": (3,)})),
        "add": Call(fnn.add, {}, {}, several({"a": (3,), "b": (3,)})),
        "select": Call(fnn.select, {"place": "a"}, {"place": "choice"}, several({"a": (3,), "b": (3,)})),
        "as_layer": Call(fnn.as_layer, {"thing": fnn.tanh}, {"thing": "layer like"}, row),
        "from_function": Call(
            fnn.from_function,
            {"function": jnp.sin},
            {"function": "function"},
            row,
            {"function": {"activation"}},
        ),
        "mixed_precision": Call(fnn.mixed_precision, {"net": NET}, {"net": "layer like", "dtype": "dtype"}, row),
        "summary": Call(fnn.summary, {"net": NET, "in_shape": (3,)}, {"net": "layer like", "in_shape": "shape"}),
        "leaky_relu": Call(fnn.leaky_relu, {}, {"alpha": "real"}, activation),
        "elu": Call(fnn.elu, {}, {"alpha": "real"}, activation),
        "prelu": Call(fnn.prelu, {}, {"initial": "real"}, row),
        "rrelu": Call(fnn.rrelu, {}, {"lower": "real", "upper": "real"}, row),
        "elementwise": Call(
            fnn.elementwise,
            {"name": "sine", "value": jnp.sin, "derivative": jnp.cos},
            {"name": "name", "value": "function", "derivative": "function"},
            activation,
            {"value": {"activation"}, "derivative": {"activation"}},
        ),
        **{
            name: Call(getattr(fnn, name), {"x": X}, {"x": "numbers"})
            for name in ["relu", "selu", "gelu", "silu", "softplus", "softsign", "sigmoid", "tanh", "softmax"]
        },
        "factory": Call(
            fnn.factory,
            {"make": lambda n: fnn.dense(n), "children": None},
            {"make": "make", "children": "function"},
            lambda made: made(3),
            {"make": {"none", "factory"}, "children": {"none"}},
        ),
    }


def _losses():
    made: dict[str, Call] = {}
    plain = {"outputs": "floats", "targets": "numbers"}
    for name in ["squared_error", "half_squared_error", "mean_squared_error", "absolute_error"]:
        made[f"losses.{name}"] = Call(getattr(losses, name), {"outputs": ROWS, "targets": ROWS}, plain)
    for name in ["cross_entropy", "softmax_cross_entropy", "multiclass_hinge"]:
        made[f"losses.{name}"] = Call(getattr(losses, name), {"outputs": OUTPUTS, "targets": ONE_HOT}, plain)
    for name in ["binary_cross_entropy", "sigmoid_cross_entropy", "hinge"]:
        made[f"losses.{name}"] = Call(getattr(losses, name), {"outputs": ROWS, "targets": LABELS[:, None]}, plain)
    for name in ["sparse_cross_entropy", "sparse_softmax_cross_entropy", "sparse_multiclass_hinge"]:
        made[f"losses.{name}"] = Call(getattr(losses, name), {"outputs": OUTPUTS, "targets": LABELS}, plain)
    for name in ["iou_loss", "giou_loss", "diou_loss"]:
        made[f"losses.{name}"] = Call(getattr(losses, name), {"outputs": BOXES, "targets": BOXES}, plain)
    made["boxes.iou"] = Call(fnn.boxes.iou, {"a": BOXES, "b": BOXES}, {"a": "numbers", "b": "numbers"})
    made["accuracy"] = Call(fnn.accuracy, {"outputs": OUTPUTS, "targets": LABELS}, plain)
    made["binary_accuracy"] = Call(
        fnn.binary_accuracy, {}, {"threshold": "real"}, lambda metric: metric(ROWS, LABELS[:, None])
    )
    number, classes = loss(ROWS, ROWS), loss(OUTPUTS, LABELS)
    boxes = loss(BOXES, BOXES)
    more = {
        "losses.ciou_loss": Call(losses.ciou_loss, {}, {"constant_tradeoff": "flag"}, boxes),
        "losses.huber": Call(losses.huber, {}, {"delta": "positive"}, number),
        "losses.smooth_l1": Call(losses.smooth_l1, {}, {"beta": "positive"}, number),
        "losses.asymmetric": Call(
            losses.asymmetric, {"over": 1, "under": 2}, {"over": "number", "under": "number"}, number
        ),
        "losses.quantile": Call(losses.quantile, {"q": 0.5}, {"q": "open share"}, number),
        "losses.sigmoid_focal": Call(
            losses.sigmoid_focal,
            {},
            {"gamma": "number", "alpha": "unit"},
            loss(ROWS, LABELS[:, None]),
            {"alpha": {"none"}},
        ),
        "losses.softmax_focal": Call(
            losses.softmax_focal, {}, {"gamma": "number", "alpha": "class weights or none"}, loss(OUTPUTS, ONE_HOT)
        ),
        "losses.sparse_softmax_focal": Call(
            losses.sparse_softmax_focal, {}, {"gamma": "number", "alpha": "class weights or none"}, classes
        ),
        "losses.smoothed": Call(
            losses.smoothed, {"loss": SCE, "smoothing": 0.1}, {"loss": "loss of classes", "smoothing": "unit"}, classes
        ),
        "losses.class_weighted": Call(
            losses.class_weighted,
            {"loss": SCE, "weights": (1.0, 2.0)},
            {"loss": "loss of classes", "weights": "class weights"},
            classes,
        ),
        "losses.weighted_sum": Call(
            losses.weighted_sum,
            {"terms": ((1.0, SQUARED), (0.5, losses.absolute_error))},
            {("terms", 0): "pair of functions", ("terms", 0, 0): "number", ("terms", 0, 1): "loss like"},
            number,
        ),
        "losses.joint": Call(
            losses.joint,
            {"terms": {"a": (1.0, SQUARED)}},
            {("terms", "a"): "pair of functions", ("terms", "a", 0): "number", ("terms", "a", 1): "loss like"},
            loss({"a": ROWS}, {"a": ROWS}),
        ),
        "losses.masked": Call(
            losses.masked,
            {"loss": SQUARED, "missing": -1.0},
            {"loss": "loss like", "missing": "host real"},
            number,
            {"missing": {"none", "nan"}},
        ),
        "losses.as_loss": Call(losses.as_loss, {"thing": SQUARED}, {"thing": "loss like"}, number),
        "losses.from_function": Call(
            losses.from_function,
            {"value": lambda y, t: ((y - t) ** 2).sum(-1), "grad": lambda y, t: 2 * (y - t)},
            {"value": "function", "grad": "function", "name": "label", "targets": "choice", "outputs": "choice"},
            number,
            {"grad": {"none"}, "name": {"none"}, "targets": {"none"}, "outputs": {"none"}, "value": {"loss"}},
        ),
    }
    return made | more


def _metrics():
    def figure(metric):
        return lambda made: made.sums(*metric) if isinstance(made, fnn.SumMetric) else made.keep(*metric[:2])

    weight = jnp.ones(7)
    classes, column = (
        (jnp.asarray(OUTPUTS), jnp.asarray(LABELS), weight),
        (jnp.asarray(ROWS), jnp.asarray(ROWS), weight),
    )
    counted = {"average": "choice", "threshold": "host real"}
    none = {"average": {"none"}, "threshold": {"none"}}
    ranked = {"logits": "flag", "average": "choice", "labels": "flag"}
    shared = {"logits": "flag"}
    own = {"value": lambda y, t: abs(y - t)[:, 0]}
    made = {
        f"metrics.{name}": Call(getattr(metrics, name), {}, counted, fine=none)
        for name in ("precision", "recall", "f1")
    }
    for name in ("balanced_accuracy", "confusion_matrix"):
        made[f"metrics.{name}"] = Call(getattr(metrics, name), {}, {"threshold": "host real"}, fine=none)
    for name in ("roc_auc", "average_precision"):
        made[f"metrics.{name}"] = Call(getattr(metrics, name), {}, ranked, fine={"logits": {"none"}})
    for name in ("log_loss", "brier_score"):
        made[f"metrics.{name}"] = Call(getattr(metrics, name), {"logits": True}, shared, figure(classes))
    for name in ("r2", "rmse", "spearman"):
        made[f"metrics.{name}"] = Call(getattr(metrics, name), {}, {}, figure(column))
    return made | {
        "metrics.top_k_accuracy": Call(metrics.top_k_accuracy, {"k": 1}, {"k": "count"}),
        "metrics.expected_calibration_error": Call(
            metrics.expected_calibration_error, {"logits": True}, shared | {"bins": "count"}, figure(classes)
        ),
        "metrics.from_sums": Call(
            metrics.from_sums,
            {"terms": own["value"], "figure": lambda sums: sums},
            {"terms": "function", "figure": "function", "mode": "choice"},
            figure(column),
            {"figure": {"none"} | CALLABLE_WITH_ONE, "mode": {"none"}, "terms": {"loss"}},
        ),
        "metrics.of": Call(
            metrics.of,
            {"output": "kind", "metric": fnn.accuracy},
            {"output": "choice", "metric": "function"},
            lambda made: made({"kind": np.eye(3), "price": np.ones(3)}, {"kind": np.arange(3), "price": np.ones(3)}),
            {"output": {"price"}, "metric": CALLABLE_WITH_TWO | {"loss", "metric"}},
        ),
        "metrics.masked": Call(
            metrics.masked,
            {"metric": fnn.accuracy, "missing": -1},
            {"metric": "function", "missing": "number"},
            lambda made: made(np.eye(3), np.arange(3)),
            {"metric": CALLABLE_WITH_TWO | {"loss", "metric"}, "missing": {"none"}},
        ),
        "metrics.from_rows": Call(
            metrics.from_rows,
            {"figure": lambda kept, weight: weight.sum(), "keep": own["value"]},
            {"figure": "function", "keep": "function", "mode": "choice"},
            None,
            {"figure": CALLABLE_WITH_TWO, "keep": {"none"} | CALLABLE_WITH_TWO, "mode": {"none"}},
        ),
    }


def _plots():
    named = {"names": "names", "ax": "axes"}
    plane = X[:, :2]
    net = fnn.serial(fnn.dense(2))
    params, state, _ = net.init(KEY, (2,))
    run = fnn.Run(params, state, None, None, (2,))
    return {
        "plots.activation": Call(
            plots.activation,
            {"function": fnn.tanh},
            {"function": "function", "low": "host real", "high": "host real", "ax": "axes"},
            fine={"function": {"activation"}},
        ),
        "plots.classes": Call(
            plots.classes, {"x": plane, "t": LABELS}, named | {"x": "points", "t": "classes of points"}
        ),
        "plots.confusion": Call(
            plots.confusion,
            {"targets": LABELS, "predicted": LABELS},
            named | {"targets": "labels", "predicted": "labels"},
        ),
        "plots.curves": Call(
            plots.curves,
            {"histories": {"one": [1.0, 2.0]}},
            {
                "histories": "histories",
                ("histories", "one"): "histories",
                "xlabel": "label",
                "ylabel": "label",
                "log": "flag",
                "ax": "axes",
            },
            fine={k: {"row", "dict", "empty list", "inf array"} for k in ("histories", ("histories", "one"))},
        ),
        "plots.decision_boundary": Call(
            plots.decision_boundary,
            {"net": net, "run": run, "x": plane, "t": LABELS, "grid": 5},
            named
            | {"net": "net", "run": "run", "x": "points", "t": "classes of points", "span": "span", "grid": "count"},
            fine={"net": set(), "run": set()},
        ),
        "plots.hidden_space": Call(
            plots.hidden_space,
            {"hidden": X, "t": LABELS, "plane": ([1.0, 1.0, -1.0], 0.5)},
            named
            | {
                "hidden": "points",
                "t": "classes of points",
                "plane": "plane",
                ("plane", 0): "span",
                ("plane", 1): "host real",
                "elevation": "host real",
                "azimuth": "host real",
            },
            fine={"hidden": {"table"}},
        ),
        "plots.schedules": Call(
            plots.schedules,
            {"named": {"one": schedules.linear_decay(0.1, 0.0, 3)}, "steps": 5},
            {"named": "schedules", ("named", "one"): "function", "steps": "count", "ax": "axes"},
            fine={("named", "one"): SCALED | {"returns int", "returns zeros of numpy"}, "named": {"dict"}},
        ),
        "plots.sweep": Call(
            plots.sweep,
            {"found": found()},
            {"found": "found", "x": "choice", "y": "choice", "figure": "choice", "ax": "axes"},
            fine={"x": {"none"}, "y": {"none"}, "figure": {"none"}},
        ),
    }


def _exports():
    kinds = {"path": "path", "net": "net", "run": "run", "in_shape": "shape", "standardiser": "optimizer state"}
    fine = {"in_shape": {"none"}, "standardiser": {"none"}, "net": {"network"}}
    return {
        f"export_{form}": Call(
            getattr(fnn, f"export_{form}"),
            {"path": f"net.{form}", "net": NET, "run": RUN},
            kinds | ({"function": "text"} if form == "c" else {}),
            fine=fine,
        )
        for form in ("onnx", "stablehlo", "c")
    }


def _foreign():
    """Networks of other libraries, with nothing that works: none of them need be installed."""
    wrong = {"module": "make", "in_dtype": "dtype"}
    return {
        "from_flax_linen": Call(fnn.from_flax_linen, {"module": None}, wrong | {"rngs": "shape"}),
        "from_flax_nnx": Call(fnn.from_flax_nnx, {"module": None}, wrong),
        "from_equinox": Call(fnn.from_equinox, {"module": None}, wrong | {"axis_name": "choice"}),
        "from_haiku": Call(
            fnn.from_haiku, {"transformed": None}, {"transformed": "make", "train": "choice", "in_dtype": "dtype"}
        ),
    }


def _others():
    path = os.path.join(os.getcwd(), "net.safetensors")
    fnn.save(path, NET, RUN)
    rate = {"learning_rate": "schedule", "alpha": "number", "mask": "mask"}
    return {
        "save": Call(fnn.save, {"path": path, "net": NET, "run": RUN}, {"path": "path", "net": "net", "run": "run"}),
        "load": Call(fnn.load, {"path": path}, {"path": "path", "net": "net"}, fine={"path": set(), "net": {"none"}}),
        **_exports(),
        **_foreign(),
        "standardise": Call(
            fnn.standardise,
            {"train": X, "others": (X,)},
            {"train": "inputs", ("others", 0): "inputs", "leaves": "place"},
            fine={"train": set()},
        ),
        "standardiser": Call(fnn.standardiser, {"x": X}, {"x": "inputs", "leaves": "place"}, lambda made: made(X)),
        "hold_out": Call(
            fnn.hold_out,
            {"x": X, "t": LABELS, "fraction": 0.25},
            {"x": "inputs", "t": "labels", "fraction": "open share", "key": "seed", "stratify": "groups"},
            fine={"fraction": set(), "x": {"row", "column"}, "t": {"table", "column", "row"}},
        ),
        "folds": Call(
            fnn.folds,
            {"rows": 7, "k": 2, "key": 0},
            {"rows": "rows", "k": "count", "key": "seed", "stratify": "groups", "groups": "groups", "repeats": "count"},
            fine={"key": {"none"}},
        ),
        "memory_mapped": Call(
            fnn.memory_mapped,
            {"x": X, "t": LABELS, "weight": None},
            {"x": "inputs", "t": "targets", "weight": "weights", "chunk_rows": "count or none"},
            fine={"x": {"nan array", "column"}, "t": {"none", "table", "row", "column"}, "weight": {"none", "row"}},
        ),
        "network_for": Call(
            fnn.network_for,
            {"table": A_TABLE, "hidden": (4,), "dropout": 0.1},
            {"table": "found", "hidden": "found", ("hidden", 0): "count", "dropout": "rate"},
            fine={"hidden": {"empty list"}},
        ),
        "sparse_rows": Call(
            fnn.sparse_rows,
            {"x": sparse.csr_array(X)},
            {"x": "sparse", "room": "count or none"},
        ),
        "own_rows": Call(fnn.own_rows, {"source": lambda epoch: [(X, LABELS)]}, {"source": "stream"}),
        "grid": Call(fnn.grid, {"over": {"a": [0.1]}}, {"over": "over", ("over", "a"): "choices"}),
        "draws": Call(
            fnn.draws,
            {"count": 2, "key": 0, "ranges": {"a": [0.1, 0.2]}},
            {"count": "count", "key": "seed", ("ranges", "a"): "ranges"},
        ),
        "uniform": Call(fnn.uniform, {"low": -2.0, "high": 2e300}, {"low": "host real", "high": "host real"}),
        "log_uniform": Call(
            fnn.log_uniform, {"low": 1e-3, "high": 2e300}, {"low": "host number", "high": "host number"}
        ),
        "enable_compile_cache": Call(
            fnn.enable_compile_cache, {"folder": os.getcwd()}, {"folder": "folder", "most_bytes": "count or 0"}
        ),
        "clear_caches": Call(fnn.clear_caches, {}, {}),
        "fully_sharded": Call(
            fnn.fully_sharded,
            {"mesh": jax.make_mesh((1,), ("data",))},
            {"mesh": "mesh", "large": "count"},
            lambda rule: rule("params/0/w", jnp.ones((4, 4))),
        ),
        "schedules.exponential_decay": Call(
            schedules.exponential_decay,
            {"initial": 0.1, "decay_steps": 3, "decay_rate": 0.5},
            {"initial": "number", "decay_steps": "steps", "decay_rate": "positive", "staircase": "flag"},
            schedule,
        ),
        "schedules.piecewise_constant": Call(
            schedules.piecewise_constant,
            {"boundaries": [3], "values": [0.1, 0.2]},
            {
                "boundaries": "list of numbers",
                ("boundaries", 0): "number",
                "values": "list of numbers",
                ("values", 0): "number",
            },
            schedule,
        ),
        "schedules.linear_decay": Call(
            schedules.linear_decay,
            {"initial": 0.1, "final": 0.0, "steps": 3},
            {"initial": "number", "final": "number", "steps": "steps"},
            schedule,
        ),
        "schedules.cosine_decay": Call(
            schedules.cosine_decay,
            {"initial": 0.1, "steps": 3},
            {"initial": "number", "final": "number", "steps": "steps"},
            schedule,
        ),
        "schedules.warm_up": Call(
            schedules.warm_up,
            {"schedule": 0.1, "steps": 3},
            {"schedule": "schedule", "steps": "steps", "start": "number"},
            schedule,
        ),
        "schedule": Call(schedules.linear_decay(0.1, 0.0, 3), {"step": 1}, {"step": "step of a schedule"}),
        "penalties.l1": Call(penalties.l1, {"coefficient": 0.1}, {"coefficient": "number", "mask": "mask"}, penalty),
        "penalties.l2": Call(penalties.l2, {"coefficient": 0.1}, {"coefficient": "number", "mask": "mask"}, penalty),
        "penalties.elastic_net": Call(
            penalties.elastic_net, {"l1": 0.1, "l2": 0.1}, {"l1": "number", "l2": "number", "mask": "mask"}, penalty
        ),
        "penalties.weight_mask": Call(penalties.weight_mask, {"params": PARAMS}, {"params": "any", "mask": "mask"}),
        "penalties.proximal_l1": Call(
            penalties.proximal_l1, {"alpha": 0.1, "learning_rate": 0.1}, rate | {"approximate": "flag"}, optimizer
        ),
        "penalties.fista": Call(
            penalties.fista,
            {"alpha": 0.1, "learning_rate": 0.1},
            rate | {"restart": "flag", "tolerance": "number or none"},
            optimizer,
        ),
        "penalties.fista_solution": Call(
            penalties.fista_solution,
            {"optimizer_state": penalties.fista(0.1).init({"w": jnp.ones(2)})},
            {"optimizer_state": "optimizer state"},
        ),
        "penalties.check_proximal": Call(penalties.check_proximal, {"optimizer_state": ()}, {"optimizer_state": "any"}),
        "penalties.soft_threshold": Call(
            penalties.soft_threshold, {"v": jnp.ones(3), "threshold": 0.5}, {"v": "numbers", "threshold": "numbers"}
        ),
        "Standardiser": Call(fnn.standardiser(X), {"x": X}, {"x": "inputs"}),
        "Penalty": Call(penalties.l2(0.1), {"params": PARAMS}, {"params": "tree of numbers"}),
        "Ensemble.predict": Call(ensemble().predict, {"x": X}, {"x": "inputs", "batch_size": "count"}),
        "Ensemble.member": Call(ensemble().member, {"i": 0}, {"i": "member"}),
        "Sweep.sorted": Call(
            found().sorted, {}, {"by": "choice", "largest": "flag"}, fine={"by": {"none"}, "largest": {"none"}}
        ),
        "Sweep.to_csv": Call(found().to_csv, {"path": "table.csv"}, {"path": "path"}),
    }


ENSEMBLE = None


def ensemble():
    """An ensemble of two, made once."""
    global ENSEMBLE
    if ENSEMBLE is None:
        ENSEMBLE = fnn.ensemble(NET, SCE, SGD, (X, LABELS), epochs=1, members=2, progress=False)
    return ENSEMBLE
