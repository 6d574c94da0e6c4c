"""`export_c`: a trained dense network as one file of C."""

import re
from math import prod

from fnn import arguments
from fnn.data.scaling import Standardiser
from fnn.devices.atomic import write_whole
from fnn.inference.prediction import Trained
from fnn.storage.export.c_source import LANES, Source, write_steps
from fnn.storage.export.programs import Program, check_program, standardising_numbers
from fnn.storage.export.steps import network_steps, out_shape
from fnn.types import Layer, PathLike, Shape

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
WORDS = """
auto break case char const continue default do double else enum extern float for goto if inline int long register
restrict return short signed sizeof static struct switch typedef union unsigned void volatile while main
INFINITY NAN HUGE_VAL HUGE_VALF HUGE_VALL isfinite isinf isnan isnormal signbit fpclassify
"""  # of C99, of a program, and the macros of <math.h>
FUNCTIONS = """
acos asin atan atan2 cos sin tan acosh asinh atanh cosh sinh tanh exp exp2 expm1 frexp ilogb ldexp log log10 log1p log2
logb modf scalbn cbrt fabs hypot pow sqrt erf erfc lgamma tgamma ceil floor nearbyint rint lround round trunc fmod
remainder copysign nan nextafter fdim fmax fmin fma
"""  # of <math.h>, with f and l behind them too
TAKEN = {*WORDS.split(), *(name + suffix for name in FUNCTIONS.split() for suffix in ("", "f", "l"))}


@arguments.explain_call
def export_c(
    path: PathLike,
    net: Layer,
    run: Trained,
    in_shape: Shape | None = None,
    *,
    standardiser: Standardiser | None = None,
    function: str = "fnn_predict",
) -> str:
    """Write a trained dense network as one file of C99 for a microcontroller: static arrays and one function.

    `void fnn_predict(const float *x, float *y)` takes one example and writes its outputs. It allocates nothing, needs
    `math.h` alone, and works in static arrays: two threads must not call it at once. Dense layers, normalisations,
    all activations of fnn, `residual` and `repeat` can be written; convolutions and functions of your own cannot. What
    only trains (dropout, noise) is not in it; a batch norm behind a dense layer is a part of its weights. Numbers are
    float32. All of the file is written, or nothing.

    Args:
        path, net, run, in_shape, standardiser: as for `export_onnx`; the usual ending is `.c`.
        function: the name of the function in C.

    Returns:
        The network, its inputs, its outputs and its standardiser in a line, which stands in the file as well.

    Raises:
        TypeError: a layer that cannot be written.
        ValueError, ShapeError: `in_shape` or `standardiser` does not fit; a parameter is not finite; `function` is no
            name in C.
        OSError: the disk is full, the folder is missing.

    >>> import fnn, jax, os, tempfile
    >>> net = fnn.serial(fnn.dense(2), fnn.relu)
    >>> params, state, _ = net.init(jax.random.key(0), (3,))
    >>> path = os.path.join(tempfile.mkdtemp(), "net.c")
    >>> print(fnn.export_c(path, net, fnn.Run(params, state, None, None), in_shape=(3,)))
    serial(dense(2), relu); input x: float32 (3); output y: float32 (2)
    >>> with open(path) as file:
    ...     print(file.readlines()[-18].strip())
    void fnn_predict(const float *x, float *y);
    """
    if not isinstance(function, str) or not NAME.fullmatch(function) or function in TAKEN:
        got = arguments.describe_value(function)
        raise ValueError(f"function: expected a name in C, got {got}. Write function='fnn_predict'.")
    program = check_program(path, net, run, in_shape, standardiser)
    steps = network_steps("export_c", net, program.run.params, program.run.state, program.in_shape)
    source, shape = Source(), out_shape(steps, program.in_shape)
    inputs = source.buffer(prod(program.in_shape))
    _standardise(source, program, inputs)
    outputs = write_steps(source, steps, inputs, program.in_shape)
    source.add("for (i = 0; i < $size; i++) y[i] = $outputs[i];", size=prod(shape), outputs=outputs)
    stated = program.state_interface(shape, batch="")
    write_whole(program.path, [_text(source, stated, function).encode()])
    return stated


def _standardise(source: Source, program: Program, inputs: str) -> None:
    """The inputs in the first buffer, standardised as the rows of the training were."""
    size, value = prod(program.in_shape), "x[i]"
    if program.standardiser is not None:
        mean, rest, deviation = map(source.constant, standardising_numbers(program.standardiser))
        value = f"((x[i] - {mean}[i]) - {rest}[i]) / {deviation}[i]"
    source.add("for (i = 0; i < $size; i++) $inputs[i] = $value;", size=size, inputs=inputs, value=value)


def _text(source: Source, stated: str, function: str) -> str:
    comment = stated.replace("*/", "* /").replace("; ", "\n   ")
    buffers = [f"    static float {name}[{size}];" for name, size in source.buffers.items()]
    body = "\n".join(source.lines)
    used = {name for name in "jkmts" if re.search(rf"\b{name}\b", body)}
    numbers = ", ".join(["i", *sorted(used & set("jk"))])
    floats = [{"s": f"s[{LANES}]"}.get(name, name) for name in sorted(used & set("mst"))]
    lines = [
        f"/* Written by fnn.export_c. Not for two threads at once.\n   {comment} */",
        "#include <math.h>",
        "",
        *source.constants,
        "",
        f"void {function}(const float *x, float *y);",
        "",
        f"void {function}(const float *x, float *y) {{",
        *buffers,
        f"    int {numbers};",
        *([f"    float {', '.join(floats)};"] if floats else []),
        body,
        "}",
        "",
    ]
    return "\n".join(lines)
