"""Each step as nodes of an ONNX graph.

ONNX has the channels of images first, fnn has them last. A value knows which it has, and is turned round where a node
wants the other: once before the first convolution and once behind the last one.
"""

import math
from collections.abc import Callable, Sequence
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
        if value.channels_first == channels_first or len(value.shape) != 3:
            return value
        order = [0, 3, 1, 2] if channels_first else [0, 2, 3, 1]
        return Value(self.emit("Transpose", [value.name], perm=order), value.shape, channels_first)

    def per_channel(self, value: Value, numbers: np.ndarray) -> str:
        """A constant of one number, or of one per channel, beside a value."""
        return self.constant(numbers.reshape(-1, 1, 1) if value.channels_first and numbers.ndim else numbers)


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
    w, b = graph.constant(numbers["w"].transpose(3, 2, 0, 1)), graph.constant(numbers["b"])
    name = graph.emit(
        "Conv",
        [value.name, w, b],
        kernel_shape=numbers["w"].shape[:2],
        strides=numbers["stride"],
        dilations=numbers["dilation"],
        group=numbers["groups"],
        pads=numbers["pads"],
    )
    return Value(name, step.shape, True)


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
    centred = emit("Sub", [distance, emit("ReduceMean", [distance], axes=[-1])])
    variance = emit("ReduceMean", [emit("Mul", [centred, centred])], axes=[-1])
    deviation = emit("Sqrt", [emit("Add", [variance, graph.constant(step.numbers["eps"])])])
    scaled = emit("Mul", [emit("Div", [centred, deviation]), graph.constant(step.numbers["scale"])])
    return value._replace(name=emit("Add", [scaled, graph.constant(step.numbers["offset"])]))


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
    "max_pool": _pool("MaxPool"),
    "avg_pool": _pool("AveragePool", count_include_pad=0),
    "global_mean": _global_mean,
    "flatten": _flatten,
    "crop": _crop,
    "affine": _affine,
    "layer_norm": _layer_norm,
    "residual": _residual,
    "leaky_relu": _leaky_relu,
    "elu": _elu,
    "softmax": _softmax,
    "gelu": _gelu,
    "silu": _silu,
    "function": _function,
}
