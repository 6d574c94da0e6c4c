"""`export_onnx`: a trained network as an ONNX file."""

from types import ModuleType
from typing import Any

import fnn
from fnn import arguments
from fnn.data.scaling import Standardiser
from fnn.devices.atomic import write_whole
from fnn.inference.prediction import Trained
from fnn.storage.export.onnx_layers import Graph, Value, emit_steps
from fnn.storage.export.programs import Program, check_program, standardising_numbers
from fnn.storage.export.steps import network_steps
from fnn.types import Layer, PathLike, Shape

OPSET, IR_VERSION = 17, 8  # of May 2022: every runtime in use reads it
FLOAT = 1  # of onnx.TensorProto


@arguments.explain_call
def export_onnx(
    path: PathLike,
    net: Layer,
    run: Trained,
    in_shape: Shape | None = None,
    *,
    standardiser: Standardiser | None = None,
) -> str:
    """Write a trained network to an ONNX file, for onnxruntime, OpenVINO, TensorRT, Core ML and others.

    The file computes what `predict` computes: input `x`, float32 `(batch, *in_shape)`, output `y`, float32, for any
    number of rows. What only trains (dropout, noise) is not in it; a batch norm behind a dense layer or a convolution
    is a part of its weights. Operator set 17. Numbers are float32: a network in `mixed_precision`, or of float64, is
    exported in float32. All of the file is written, or nothing.

    A function of your own (`fnn.elementwise`, `jnp.sin`) is exported if it computes each element by itself.

    Args:
        path: where to; the usual ending is `.onnx`.
        net: the network.
        run: what `fit` returned, or anything with `params` and `state`.
        in_shape: of one example, without the batch; None: as in training.
        standardiser: what `fnn.standardiser(x)` returned, if the network was trained on rows that it made. It becomes
            part of the program, and the file takes rows as they were measured.

    Returns:
        The network, its inputs, its outputs and its standardiser in a line, which the file also states.

    Raises:
        TypeError: a layer of your own, or a function that does more than compute each element.
        ValueError, ShapeError: `in_shape` or `standardiser` does not fit; a parameter is not finite.
        OSError: the disk is full, the folder is missing.
        ImportError: onnx is not installed (`pip install "fnn[export]"`).

    >>> import fnn, jax, os, tempfile
    >>> net = fnn.serial(fnn.dense(2), fnn.relu)
    >>> params, state, _ = net.init(jax.random.key(0), (3,))
    >>> path = os.path.join(tempfile.mkdtemp(), "net.onnx")
    >>> print(fnn.export_onnx(path, net, fnn.Run(params, state, None, None), in_shape=(3,)))
    serial(dense(2), relu); input x: float32 (batch, 3); output y: float32 (batch, 2)
    """
    onnx = _import_onnx()
    program = check_program(path, net, run, in_shape, standardiser)
    steps = network_steps("export_onnx", net, program.run.params, program.run.state, program.in_shape)
    graph = Graph(onnx)
    value = emit_steps(graph, steps, _standardise(graph, program))
    value = graph.turn(value, False)
    graph.nodes.append(onnx.helper.make_node("Identity", [value.name], ["y"]))
    stated = program.state_interface(value.shape)
    model = _model(onnx, graph, program, value.shape, stated)
    onnx.checker.check_model(model, full_check=True)
    write_whole(program.path, [model.SerializeToString()])
    return stated


def _import_onnx() -> ModuleType:
    try:
        import onnx
        import onnx.checker
        import onnx.helper
        import onnx.numpy_helper
    except ImportError:
        raise ImportError('export_onnx: onnx is not installed. Run: pip install "fnn[export]"') from None
    module: ModuleType = onnx
    return module


def _standardise(graph: Graph, program: Program) -> Value:
    """The inputs, standardised as the rows of the training were."""
    if program.standardiser is None:
        return Value("x", program.in_shape)
    mean, rest, deviation = map(graph.constant, standardising_numbers(program.standardiser))
    centred = graph.emit("Sub", [graph.emit("Sub", ["x", mean]), rest])
    return Value(graph.emit("Div", [centred, deviation]), program.in_shape)


def _model(onnx: Any, graph: Graph, program: Program, out_shape: Shape, stated: str) -> Any:
    helper = onnx.helper
    x = helper.make_tensor_value_info("x", FLOAT, ["batch", *program.in_shape])
    y = helper.make_tensor_value_info("y", FLOAT, ["batch", *out_shape])
    made = helper.make_graph(graph.nodes, "fnn", [x], [y], graph.constants, doc_string=stated)
    return helper.make_model(
        made,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="fnn",
        producer_version=fnn.__version__,
        doc_string=stated,
    )
