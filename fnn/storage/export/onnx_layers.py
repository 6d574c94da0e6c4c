"""Each step as nodes of an ONNX graph.

ONNX has the channels of images and sequences first, fnn has them last. A value knows which it has, and is turned round
where a node wants the other: once before the first convolution and once behind the last one.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fnn.storage.export.onnx_functions import emit_function
from fnn.storage.export.steps import Step
from fnn.types import Shape


class Value(NamedTuple):
    """An array of the graph: its name, the shape of one example as fnn has it, and where its channels are."""

    name: str
    shape: Shape
    channels_first: bool = False


class Graph:
    """Nodes and constants of an ONNX graph, under numbers in place of names."""

    def __init__(self, onnx: Any):
        self.onnx = onnx
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, array: Any) -> str:
        """The name of a constant; floats are float32."""
        array = np.asarray(array)
        array = array.astype(np.float32) if array.dtype == np.float64 else array
        return self.exact_constant(array)

    def exact_constant(self, array: np.ndarray) -> str:
        """The name of a constant of the dtype that it has."""
        name = f"c{len(self.constants)}"
        self.constants.append(self.onnx.numpy_helper.from_array(np.array(array, order="C"), name))
        return name

    def emit(self, operation: str, inputs: Sequence[str], **attributes: Any) -> str:
        """Add a node; the name of its output."""
        name = f"v{len(self.nodes)}"
        self.nodes.append(self.onnx.helper.make_node(operation, list(inputs), [name], **attributes))
        return name

    def turn(self, value: Value, channels_first: bool) -> Value:
        """The value with its channels there."""
        if value.channels_first == channels_first or len(value.shape) < 2:
            return value
        places = list(range(1, len(value.shape)))
        order = [0, len(value.shape), *places] if channels_first else [0, *(i + 1 for i in places), 1]
        return Value(self.emit("Transpose", [value.name], perm=order), value.shape, channels_first)

    def per_channel(self, value: Value, numbers: np.ndarray) -> str:
        """A constant of one number, or of one per channel, beside a value."""
        of_first = numbers.reshape(-1, *[1] * (len(value.shape) - 1))
        return self.constant(of_first if value.channels_first and numbers.ndim else numbers)


def emit_steps(graph: Graph, steps: Sequence[Step], value: Value) -> Value:
    """The nodes of a network, from the value of its inputs to that of its outputs."""
    for step in steps:
        write = _LAYERS.get(step.kind) or _elementwise(step.kind)
        value = write(graph, step, value)
    return value


Write = Callable[[Graph, Step, Value], Value]


def _linear(graph: Graph, step: Step, value: Value) -> Value:
    w, b = (graph.constant(step.numbers[name]) for name in "wb")
    return Value(graph.emit("Gemm", [value.name, w, b]), step.shape)


def _sparse_linear(graph: Graph, step: Step, value: Value) -> Value:
    w, b = (graph.constant(step.numbers[name]) for name in "wb")
    at, values = (graph.emit("Gather", [value.name, graph.constant(np.int64(i))], axis=1) for i in (0, 1))
    at = graph.emit("Cast", [graph.emit("Round", [at])], to=graph.onnx.TensorProto.INT64)
    rows = graph.emit("Gather", [w, at], axis=0)  # (batch, room, features)
    product = graph.emit("MatMul", [graph.emit("Unsqueeze", [values, graph.constant(np.array([1]))]), rows])
    sums = graph.emit("Squeeze", [product, graph.constant(np.array([1]))])
    return Value(graph.emit("Add", [sums, b]), step.shape)


def _convolution(graph: Graph, step: Step, value: Value) -> Value:
    numbers, value = step.numbers, graph.turn(value, True)
    places = _places(numbers)
    name = graph.emit("Conv", [value.name, *_kernel(graph, numbers)], **places)
    return Value(name, step.shape, True)


def _transposed_convolution(graph: Graph, step: Step, value: Value) -> Value:
    numbers, value = step.numbers, graph.turn(value, True)
    places = _places(numbers)
    name = graph.emit("ConvTranspose", [value.name, *_kernel(graph, numbers)], **places, output_padding=numbers["more"])
    return Value(name, step.shape, True)


def _kernel(graph: Graph, numbers: Mapping[str, Any]) -> tuple[str, str]:
    """Weights with the places of the window last, and the bias."""
    w = numbers["w"]
    return graph.constant(w.transpose(w.ndim - 1, w.ndim - 2, *range(w.ndim - 2))), graph.constant(numbers["b"])


def _places(numbers: Mapping[str, Any]) -> dict[str, Any]:
    names = {"strides": "stride", "dilations": "dilation", "group": "groups", "pads": "pads"}
    return {"kernel_shape": numbers["w"].shape[:-2], **{name: numbers[part] for name, part in names.items()}}


def _upsample(graph: Graph, step: Step, value: Value) -> Value:
    value, factor = graph.turn(value, True), step.numbers["factor"]
    scales = graph.constant(np.asarray([1, 1, *factor], np.float32))
    how = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    if step.numbers["method"] == "bilinear":
        how = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
    return Value(graph.emit("Resize", [value.name, "", scales], **how), step.shape, True)


def _embedding(graph: Graph, step: Step, value: Value) -> Value:
    """What is no category gets a row of nan, which stands behind the table."""
    x, emit, table = graph.turn(value, False).name, graph.emit, step.numbers["table"]
    size = len(table)
    within = emit(
        "And", [emit("GreaterOrEqual", [x, graph.constant(0.0)]), emit("Less", [x, graph.constant(size * 1.0)])]
    )
    known = emit("And", [within, emit("Equal", [x, emit("Floor", [x])])])
    row = emit("Cast", [emit("Where", [known, x, graph.constant(size * 1.0)])], to=graph.onnx.TensorProto.INT64)
    rows = graph.constant(np.concatenate([table, np.full_like(table[:1], np.nan)]))
    return Value(emit("Gather", [rows, row], axis=0), step.shape)


def _pool(operation: str, **more: int) -> Write:
    def write(graph: Graph, step: Step, value: Value) -> Value:
        numbers, value = step.numbers, graph.turn(value, True)
        places = {"kernel_shape": numbers["window"], "strides": numbers["stride"], "pads": numbers["pads"]}
        return Value(graph.emit(operation, [value.name], **places, **more), step.shape, True)

    return write


def _global_mean(graph: Graph, step: Step, value: Value) -> Value:
    axes = [2, 3] if value.channels_first else [1, 2]
    return Value(graph.emit("ReduceMean", [value.name], axes=axes, keepdims=0), step.shape)


def _flatten(graph: Graph, step: Step, value: Value) -> Value:
    return Value(graph.emit("Flatten", [graph.turn(value, False).name], axis=1), step.shape)


def _crop(graph: Graph, step: Step, value: Value) -> Value:
    start = np.asarray(step.numbers["start"], np.int64)
    axes = [2, 3] if value.channels_first else [1, 2]
    bounds = [graph.constant(np.asarray(a, np.int64)) for a in (start, start + step.shape[:2], axes)]
    return Value(graph.emit("Slice", [value.name, *bounds]), step.shape, value.channels_first)


def _affine(graph: Graph, step: Step, value: Value) -> Value:
    name = value.name
    for operation, part, neutral in (("Sub", "centre", 0), ("Mul", "factor", 1), ("Add", "offset", 0)):
        numbers = step.numbers[part]
        if (numbers != neutral).any():
            name = graph.emit(operation, [name, graph.per_channel(value, numbers)])
    return value._replace(name=name)


def _layer_norm(graph: Graph, step: Step, value: Value) -> Value:
    """By single operations: the one of ONNX subtracts a square from a mean of squares, which loses digits."""
    value, emit = graph.turn(value, False), graph.emit
    first = [graph.constant(np.asarray([number], np.int64)) for number in (0, 1, len(value.shape))]
    distance = emit("Sub", [value.name, emit("Slice", [value.name, *first])])  # a row of equal numbers: exactly 0
    normal = _to_unit_variance(graph, distance, step.numbers["eps"])
    scaled = emit("Mul", [normal, graph.constant(step.numbers["scale"])])
    return value._replace(name=emit("Add", [scaled, graph.constant(step.numbers["offset"])]))


def _group_norm(graph: Graph, step: Step, value: Value) -> Value:
    """By single operations, as `_layer_norm`, on all numbers of a group in a line."""
    value, emit, numbers = graph.turn(value, True), graph.emit, step.numbers
    line = graph.constant(np.asarray([0, numbers["groups"], -1], np.int64))
    whole = graph.constant(np.asarray([0, value.shape[-1], *value.shape[:-1]], np.int64))
    first = [graph.constant(np.asarray([number], np.int64)) for number in (0, 1, 2)]
    in_line = emit("Reshape", [value.name, line])
    distance = emit("Sub", [in_line, emit("Slice", [in_line, *first])])
    normal = emit("Reshape", [_to_unit_variance(graph, distance, numbers["eps"]), whole])
    scaled = emit("Mul", [normal, graph.per_channel(value, numbers["scale"])])
    return value._replace(name=emit("Add", [scaled, graph.per_channel(value, numbers["offset"])]))


def _rms_norm(graph: Graph, step: Step, value: Value) -> Value:
    value, emit = graph.turn(value, False), graph.emit
    normal = _divide_by_root_mean_square(graph, value.name, step.numbers["eps"])
    return value._replace(name=emit("Mul", [normal, graph.constant(step.numbers["scale"])]))


def _to_unit_variance(graph: Graph, x: str, eps: np.ndarray) -> str:
    """Along the last axis."""
    centred = graph.emit("Sub", [x, graph.emit("ReduceMean", [x], axes=[-1])])
    return _divide_by_root_mean_square(graph, centred, eps)


def _divide_by_root_mean_square(graph: Graph, x: str, eps: np.ndarray) -> str:
    square = graph.emit("ReduceMean", [graph.emit("Mul", [x, x])], axes=[-1])
    return graph.emit("Div", [x, graph.emit("Sqrt", [graph.emit("Add", [square, graph.constant(eps)])])])


def _residual(graph: Graph, step: Step, value: Value) -> Value:
    inner = graph.turn(emit_steps(graph, step.inner, value), value.channels_first)
    return value._replace(name=graph.emit("Add", [value.name, inner.name]))


# ---- activations


def _leaky_relu(graph: Graph, step: Step, value: Value) -> Value:
    alpha = step.numbers["alpha"]
    if alpha.ndim:
        return value._replace(name=graph.emit("PRelu", [value.name, graph.per_channel(value, alpha)]))
    return value._replace(name=graph.emit("LeakyRelu", [value.name], alpha=float(alpha)))


def _elu(graph: Graph, step: Step, value: Value) -> Value:
    alpha = step.numbers["alpha"]
    if not alpha.ndim:
        return value._replace(name=graph.emit("Elu", [value.name], alpha=float(alpha)))
    left = graph.emit("Mul", [graph.per_channel(value, alpha), graph.emit("Elu", [value.name])])
    right = graph.emit("Greater", [value.name, graph.constant(0.0)])
    return value._replace(name=graph.emit("Where", [right, value.name, left]))


def _softmax(graph: Graph, step: Step, value: Value) -> Value:
    value = graph.turn(value, False)
    return value._replace(name=graph.emit("Softmax", [value.name], axis=-1))


def _gelu(graph: Graph, step: Step, value: Value) -> Value:
    erf = graph.emit("Erf", [graph.emit("Mul", [value.name, graph.constant(math.sqrt(0.5))])])
    share = graph.emit("Mul", [graph.emit("Add", [erf, graph.constant(1.0)]), graph.constant(0.5)])
    return value._replace(name=graph.emit("Mul", [value.name, share]))


def _silu(graph: Graph, step: Step, value: Value) -> Value:
    return value._replace(name=graph.emit("Mul", [value.name, graph.emit("Sigmoid", [value.name])]))


def _function(graph: Graph, step: Step, value: Value) -> Value:
    value = graph.turn(value, False)
    function, name = step.numbers["function"], step.numbers["name"]
    made = emit_function(name, function, value.shape, value.name, graph.emit, graph.exact_constant)
    return value._replace(name=made)


def _elementwise(kind: str) -> Write:
    """An activation that ONNX has under its own name."""
    return lambda graph, step, value: value._replace(name=graph.emit(kind.capitalize(), [value.name]))


_LAYERS: dict[str, Write] = {
    "linear": _linear,
    "sparse_linear": _sparse_linear,
    "convolution": _convolution,
    "transposed_convolution": _transposed_convolution,
    "upsample": _upsample,
    "embedding": _embedding,
    "max_pool": _pool("MaxPool"),
    "avg_pool": _pool("AveragePool", count_include_pad=0),
    "global_mean": _global_mean,
    "flatten": _flatten,
    "crop": _crop,
    "affine": _affine,
    "layer_norm": _layer_norm,
    "group_norm": _group_norm,
    "rms_norm": _rms_norm,
    "residual": _residual,
    "leaky_relu": _leaky_relu,
    "elu": _elu,
    "softmax": _softmax,
    "gelu": _gelu,
    "silu": _silu,
    "function": _function,
}
