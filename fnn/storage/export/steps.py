"""A network in prediction as a list of plain steps, each with its numbers.

What only trains (dropout, noise, shifts, flips) is gone, `repeat` is unrolled, and a batch norm behind a dense layer or
a convolution is a part of its weights. The steps are read from how the layers were made: `Layer.spec`.
"""

from collections.abc import Callable, Mapping
from math import prod
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fnn import activations, arguments
from fnn.activations import Activation
from fnn.factories import Spec, origin
from fnn.kernels.windows import window_spec
from fnn.layers import combinators, embedding, linear, noise, precision, sparse
from fnn.layers.combinators import as_layer
from fnn.layers.images import augmentation, convolution, pooling, sequences, transposed, upsampling
from fnn.layers.normalisations import batch, features
from fnn.storage.export.programs import as_float64
from fnn.types import Layer, Params, Shape, State


class Step(NamedTuple):
    """One operation on a batch of examples; images have their channels last.

    - `kind`: "embedding", "linear", "sparse_linear", "convolution", "transposed_convolution", "max_pool", "avg_pool",
      "global_mean", "upsample", "flatten", "crop", "layer_norm", "group_norm", "rms_norm", "leaky_relu";
      "affine", `(x - centre) factor + offset`; "function", one of each element; "residual", `x + inner(x)`; or the
      name of an activation.
    - `shape`: of one example of its outputs.
    - `numbers`: by name; arrays are of float64.
    - `inner`: the steps of a residual.
    """

    kind: str
    shape: Shape
    numbers: Mapping[str, Any] = {}
    inner: tuple["Step", ...] = ()


Steps = list[Step]
Making = Callable[[str, Mapping[str, Any], Params, State, Shape], Steps]  # name, arguments, params, state, in_shape
PLAIN = {getattr(activations, name): name for name in
         ("relu", "selu", "gelu", "silu", "softplus", "softsign", "sigmoid", "tanh", "softmax")}  # fmt: skip
WITH_SLOPE = {activations.leaky_relu: "leaky_relu", activations.elu: "elu"}


def network_steps(name: str, net: Layer, params: Params, state: State, in_shape: Shape) -> Steps:
    """The steps of a network; a TypeError names a layer that is not of fnn.

    >>> import fnn, jax
    >>> from fnn.storage.export.steps import network_steps
    >>> net = fnn.serial(fnn.dense(3), fnn.batch_norm(), fnn.relu, fnn.dropout(0.5), fnn.dense(2))
    >>> params, state, _ = net.init(jax.random.key(0), (4,))
    >>> [(step.kind, step.shape) for step in network_steps("export", net, params, state, (4,))]
    [('linear', (3,)), ('relu', (3,)), ('linear', (2,))]
    """
    call = origin(net)
    if call is not None and call.factory is as_layer:
        return _activation_steps(name, dict(call.arguments)["thing"], in_shape)
    made_by = _inner_of_wrapper(net)
    if made_by is not None:
        return network_steps(name, made_by, params, state, in_shape)
    making = None if call is None else _MAKINGS.get(call.factory)
    if call is None or making is None:
        raise TypeError(
            f"{name}: expected layers that it can write, got {str(net)[:80]}. "
            "Use export_stablehlo, which takes any layer."
        )
    return making(name, dict(call.arguments), params, state, in_shape)


def _inner_of_wrapper(net: Layer) -> Layer | None:
    """The layer that a factory of the user's took from another factory and returned as it was."""
    children = net.spec.children if isinstance(net.spec, Spec) and net.spec.factory not in _MAKINGS else None
    inner = children[0] if children and len(children) == 1 else None
    return inner if isinstance(inner, Layer) and inner.forward is net.forward else None


def out_shape(steps: Steps, in_shape: Shape) -> Shape:
    """The shape of one example after some steps."""
    return steps[-1].shape if steps else in_shape


# ---- what is made of other layers


def _serial(name: str, given: Mapping[str, Any], params: Params, state: State, in_shape: Shape) -> Steps:
    steps: Steps = []
    for layer, p, s in zip(given["layers"], params, state, strict=True):
        for step in network_steps(name, as_layer(layer), p, s, out_shape(steps, in_shape)):
            folded = _fold(steps[-1], step) if steps else None
            steps = [*steps, step] if folded is None else [*steps[:-1], folded]
    return steps


def _fold(before: Step, step: Step) -> Step | None:
    """One step in place of a linear one and the affine one behind it."""
    if step.kind != "affine" or before.kind not in ("linear", "sparse_linear", "convolution"):
        return None
    centre, factor, offset = (step.numbers[part] for part in ("centre", "factor", "offset"))
    w, b = before.numbers["w"], before.numbers["b"]
    return before._replace(numbers={**before.numbers, "w": w * factor, "b": (b - centre) * factor + offset})


def _repeat(name: str, given: Mapping[str, Any], params: Params, state: State, in_shape: Shape) -> Steps:
    rounds = [jax.tree.map(lambda a, i=i: a[i], (params, state)) for i in range(given["times"])]
    each = {"layers": (given["layer"],) * given["times"]}
    return _serial(name, each, [p for p, _ in rounds], [s for _, s in rounds], in_shape)


def _residual(name: str, given: Mapping[str, Any], params: Params, state: State, in_shape: Shape) -> Steps:
    return [Step("residual", in_shape, inner=tuple(_serial(name, given, params, state, in_shape)))]


def _mixed_precision(name: str, given: Mapping[str, Any], params: Params, state: State, in_shape: Shape) -> Steps:
    return network_steps(name, as_layer(given["net"]), params, state, in_shape)  # computed in float32


# ---- layers


def _dense(name: str, given: Mapping[str, Any], params: Params, state: State, in_shape: Shape) -> Steps:
    features = given["features"]
    return [Step("linear", (features,), _weights(params, features))]


def _sparse_dense(name: str, given: Mapping[str, Any], params: Params, state: State, in_shape: Shape) -> Steps:
    features = given["features"]
    return [Step("sparse_linear", (features,), _weights(params, features))]


def _weights(params: Params, features: int) -> dict[str, Any]:
    return {"w": as_float64(params["w"]), "b": as_float64(params["b"]) if "b" in params else np.zeros(features)}


def _conv2d(name: str, given: Mapping[str, Any], params: Params, state: State, in_shape: Shape) -> Steps:
    slide = window_spec(name, *(given[part] for part in ("window", "stride", "padding", "dilation")))
    rows, columns = slide.over(name, in_shape)
    numbers = {"stride": slide.stride, "dilation": slide.dilation, "groups": given["groups"]}
    numbers |= {"pads": (rows.low, columns.low, rows.high, columns.high), **_weights(params, given["features"])}
    return [Step("convolution", (rows.outputs, columns.outputs, given["features"]), numbers)]


def _conv1d(name: str, given: Mapping[str, Any], params: Params, state: State, in_shape: Shape) -> Steps:
    slide = sequences.sequence_spec(name, *(given[part] for part in ("window", "stride", "padding", "dilation")))
    steps = slide.over(name, in_shape)
    numbers = {"stride": (slide.stride,), "dilation": (slide.dilation,), "groups": given["groups"]}
    numbers |= {"pads": (steps.low, steps.high), **_weights(params, given["features"])}
    return [Step("convolution", (steps.outputs, given["features"]), numbers)]


def _conv_transpose2d(name: str, given: Mapping[str, Any], params: Params, state: State, in_shape: Shape) -> Steps:
    slide = window_spec(name, *(given[part] for part in ("window", "stride", "padding", "dilation")))
    both = slide.reaching(name, in_shape)
    more = [w.numbers - (n - 1) * w.stride - w.span + w.low + w.high for n, w in zip(in_shape, both, strict=False)]
    numbers = {"stride": slide.stride, "dilation": slide.dilation, "groups": given["groups"], "more": more}
    numbers |= {"pads": (both[0].low, both[1].low, both[0].high, both[1].high), **_weights(params, given["features"])}
    return [Step("transposed_convolution", (both[0].numbers, both[1].numbers, given["features"]), numbers)]


def _upsample(name: str, given: Mapping[str, Any], params: Params, state: State, in_shape: Shape) -> Steps:
    factor = given["factor"] if isinstance(given["factor"], tuple) else (given["factor"],) * 2
    shape = in_shape[0] * factor[0], in_shape[1] * factor[1], in_shape[2]
    return [Step("upsample", shape, {"factor": factor, "method": given["method"]})]


def _embedding(name: str, given: Mapping[str, Any], params: Params, state: State, in_shape: Shape) -> Steps:
    return [Step("embedding", (*in_shape, given["features"]), {"table": as_float64(params["table"])})]


def _pool(kind: str) -> Making:
    def making(name: str, given: Mapping[str, Any], params: Params, state: State, in_shape: Shape) -> Steps:
        stride = given["window"] if given["stride"] is None else given["stride"]
        slide = window_spec(name, given["window"], stride, given["padding"])
        rows, columns = slide.over(name, in_shape)
        pads = (rows.low, columns.low, rows.high, columns.high)
        numbers = {"window": slide.window, "stride": slide.stride, "pads": pads}
        return [Step(kind, (rows.outputs, columns.outputs, in_shape[-1]), numbers)]

    return making


def _global_avg_pool(name: str, given: Mapping[str, Any], params: Params, state: State, in_shape: Shape) -> Steps:
    return [Step("global_mean", in_shape[-1:])]


def _flatten(name: str, given: Mapping[str, Any], params: Params, state: State, in_shape: Shape) -> Steps:
    return [Step("flatten", (prod(in_shape),))]


def _random_crop(name: str, given: Mapping[str, Any], params: Params, state: State, in_shape: Shape) -> Steps:
    size = (given["height"], given["width"])
    start = tuple((whole - part) // 2 for whole, part in zip(in_shape, size, strict=False))
    return [Step("crop", (*size, in_shape[-1]), {"start": start})]


def _rescale(name: str, given: Mapping[str, Any], params: Params, state: State, in_shape: Shape) -> Steps:
    factor, offset = as_float64(given["factor"]), as_float64(given["offset"])
    return [Step("affine", in_shape, {"centre": np.zeros(()), "factor": factor, "offset": offset})]


def _batch_norm(name: str, given: Mapping[str, Any], params: Params, state: State, in_shape: Shape) -> Steps:
    mean, var = as_float64(state["mean"]), as_float64(state["var"])
    affine = _affine(params)
    factor = affine["scale"] / np.sqrt(var + as_float64(given["eps"]))
    return [Step("affine", in_shape, {"centre": mean, "factor": factor, "offset": affine["offset"]})]


def _layer_norm(name: str, given: Mapping[str, Any], params: Params, state: State, in_shape: Shape) -> Steps:
    return [Step("layer_norm", in_shape, {"eps": as_float64(given["eps"]), **_affine(params)})]


def _group_norm(name: str, given: Mapping[str, Any], params: Params, state: State, in_shape: Shape) -> Steps:
    numbers = {"groups": given["groups"], "eps": as_float64(given["eps"]), **_affine(params)}
    return [Step("group_norm", in_shape, numbers)]


def _rms_norm(name: str, given: Mapping[str, Any], params: Params, state: State, in_shape: Shape) -> Steps:
    return [Step("rms_norm", in_shape, {"eps": as_float64(given["eps"]), "scale": _affine(params)["scale"]})]


def _affine(params: Params) -> dict[str, np.ndarray]:
    return {"scale": np.ones(()), "offset": np.zeros(()), **{name: as_float64(a) for name, a in params.items()}}


def _nothing(name: str, given: Mapping[str, Any], params: Params, state: State, in_shape: Shape) -> Steps:
    return []  # it only trains


# ---- activations


def _prelu(name: str, given: Mapping[str, Any], params: Params, state: State, in_shape: Shape) -> Steps:
    return [Step("leaky_relu", in_shape, {"alpha": as_float64(params["a"])})]


def _rrelu(name: str, given: Mapping[str, Any], params: Params, state: State, in_shape: Shape) -> Steps:
    return [Step("leaky_relu", in_shape, {"alpha": as_float64((given["lower"] + given["upper"]) / 2)})]


def _activation_steps(name: str, activation: Activation, in_shape: Shape) -> Steps:
    if activation in PLAIN:
        return [Step(PLAIN[activation], in_shape)]
    call = origin(activation)
    if call is not None and call.factory in WITH_SLOPE:
        return [Step(WITH_SLOPE[call.factory], in_shape, {"alpha": as_float64(dict(call.arguments)["alpha"])})]
    return [Step("function", in_shape, {"function": activation.value, "name": str(activation)})]


def _from_function(name: str, given: Mapping[str, Any], params: Params, state: State, in_shape: Shape) -> Steps:
    one = jax.ShapeDtypeStruct((1, *in_shape), jnp.float32)
    numbers = {"function": given["function"], "name": arguments.describe_thing(given["function"])}
    return [Step("function", jax.eval_shape(given["function"], one).shape[1:], numbers)]


_MAKINGS: dict[Any, Making] = {
    combinators.serial: _serial,
    combinators.repeat: _repeat,
    combinators.residual: _residual,
    combinators.from_function: _from_function,
    precision.mixed_precision: _mixed_precision,
    linear.dense: _dense,
    sparse.sparse_dense: _sparse_dense,
    convolution.conv2d: _conv2d,
    sequences.conv1d: _conv1d,
    transposed.conv_transpose2d: _conv_transpose2d,
    upsampling.upsample: _upsample,
    embedding.embedding: _embedding,
    convolution.flatten: _flatten,
    pooling.max_pool: _pool("max_pool"),
    pooling.avg_pool: _pool("avg_pool"),
    pooling.global_avg_pool: _global_avg_pool,
    batch.batch_norm: _batch_norm,
    features.layer_norm: _layer_norm,
    features.group_norm: _group_norm,
    features.rms_norm: _rms_norm,
    activations.prelu: _prelu,
    activations.rrelu: _rrelu,
    augmentation.rescale: _rescale,
    augmentation.random_crop: _random_crop,
    augmentation.random_shift: _nothing,
    augmentation.random_flip: _nothing,
    noise.dropout: _nothing,
    noise.gaussian_noise: _nothing,
}
