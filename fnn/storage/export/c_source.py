"""Each step as statements in C: plain loops over static arrays of float, nothing else.

A batch is one example. Its numbers lie one behind the other, channels last, in one of the buffers `a` and `b`.
"""

from collections.abc import Callable, Sequence
from math import prod

import numpy as np

from fnn.storage.export.steps import Step
from fnn.types import Shape

LANES = 8  # partial sums of a product: shorter sums round less, and compilers make vectors of them


class Source:
    """The constants and the statements of a program, and the names that it has used."""

    def __init__(self) -> None:
        self.constants: list[str] = []
        self.lines: list[str] = []
        self.buffers: dict[str, int] = {}  # name -> how many floats

    def constant(self, numbers: np.ndarray) -> str:
        """The name of a static array with these numbers as float32."""
        name = f"c{len(self.constants)}"
        written = [_literal(number) for number in np.asarray(numbers, np.float32).ravel()]
        lines = ["    " + ", ".join(written[i : i + 8]) for i in range(0, len(written), 8)]
        self.constants.append(f"static const float {name}[{len(written)}] = {{\n" + ",\n".join(lines) + "\n};")
        return name

    def buffer(self, floats: int) -> str:
        """The name of a new buffer."""
        name = f"b{len(self.buffers)}"
        self.buffers[name] = floats
        return name

    def add(self, text: str, **names: object) -> None:
        """Statements, in which `$name` is what `names` say."""
        for name in sorted(names, key=len, reverse=True):
            text = text.replace(f"${name}", str(names[name]))
        self.lines += [f"    {line}" if line else "" for line in text.strip("\n").splitlines()]


def _literal(number: np.float32) -> str:
    """A float of C that is this number to the last bit."""
    text = np.format_float_scientific(number, unique=True, trim="0")
    return f"{text}f"


def write_steps(source: Source, steps: Sequence[Step], x: str, shape: Shape) -> str:
    """The statements of a network for the numbers in the buffer `x`; the name of the buffer of its outputs.

    Raises:
        TypeError: a step is of images, or a function of the user's.
    """
    for step in steps:
        write = _LAYERS.get(step.kind)
        formula = _FORMULAS.get(step.kind)
        if write is None and formula is None:
            what = step.numbers.get("name", step.kind.replace("_", " "))
            raise TypeError(
                f"export_c: expected dense layers and activations of fnn, got {what}. "
                "Use export_onnx, or export_stablehlo."
            )
        if write is not None:
            x = write(source, step, x, shape)
        elif formula is not None:
            _write_formula(source, formula, step, x)
        shape = step.shape
    return x


Write = Callable[[Source, Step, str, Shape], str]


def _linear(source: Source, step: Step, x: str, shape: Shape) -> str:
    w, b = source.constant(step.numbers["w"].T), source.constant(step.numbers["b"])
    y = source.buffer(prod(step.shape))
    body = """
for (i = 0; i < $rows; i++) { /* dense */
    for (k = 0; k < $lanes; k++) s[k] = 0.0f;
    for (j = 0; j < $columns; j++) s[j % $lanes] += $w[i * $columns + j] * $x[j];
    for (k = $lanes / 2; k > 0; k /= 2)
        for (j = 0; j < k; j++) s[j] += s[j + k];
    $y[i] = s[0] + $b[i];
}"""
    source.add(body, rows=step.shape[0], columns=shape[0], lanes=LANES, w=w, b=b, x=x, y=y)
    return y


def _affine(source: Source, step: Step, x: str, shape: Shape) -> str:
    parts = [np.broadcast_to(step.numbers[part], shape[-1:] or (1,)) for part in ("centre", "factor", "offset")]
    centre, factor, offset = map(source.constant, parts)
    body = """
for (i = 0; i < $size; i++) { /* factor and offset per channel */
    k = i % $channels;
    $x[i] = ($x[i] - $centre[k]) * $factor[k] + $offset[k];
}"""
    names = {"centre": centre, "factor": factor, "offset": offset, "x": x}
    source.add(body, size=prod(shape), channels=(shape or (1,))[-1], **names)
    return x


def _layer_norm(source: Source, step: Step, x: str, shape: Shape) -> str:
    parts = [np.broadcast_to(step.numbers[part], shape[-1:]) for part in ("scale", "offset")]
    scale, offset = map(source.constant, parts)
    body = """
for (i = 0; i < $size; i += $channels) { /* layer norm */
    t = $x[i];
    m = 0.0f;
    for (k = 0; k < $channels; k++) { $x[i + k] -= t; m += $x[i + k]; }
    m /= $channels.0f;
    t = 0.0f;
    for (k = 0; k < $channels; k++) { $x[i + k] -= m; t += $x[i + k] * $x[i + k]; }
    t = 1.0f / sqrtf(t / $channels.0f + $eps);
    for (k = 0; k < $channels; k++) $x[i + k] = $x[i + k] * t * $scale[k] + $offset[k];
}"""
    eps = _literal(np.float32(step.numbers["eps"]))
    source.add(body, size=prod(shape), channels=shape[-1], x=x, eps=eps, scale=scale, offset=offset)
    return x


def _rms_norm(source: Source, step: Step, x: str, shape: Shape) -> str:
    scale = source.constant(np.broadcast_to(step.numbers["scale"], shape[-1:]))
    body = """
for (i = 0; i < $size; i += $channels) { /* rms norm */
    t = 0.0f;
    for (k = 0; k < $channels; k++) t += $x[i + k] * $x[i + k];
    t = 1.0f / sqrtf(t / $channels.0f + $eps);
    for (k = 0; k < $channels; k++) $x[i + k] = $x[i + k] * t * $scale[k];
}"""
    eps = _literal(np.float32(step.numbers["eps"]))
    source.add(body, size=prod(shape), channels=shape[-1], x=x, eps=eps, scale=scale)
    return x


def _group_norm(source: Source, step: Step, x: str, shape: Shape) -> str:
    parts = [np.broadcast_to(step.numbers[part], shape[-1:]) for part in ("scale", "offset")]
    scale, offset = map(source.constant, parts)
    body = """
for (j = 0; j < $channels; j += $width) { /* group norm */
    t = $x[j];
    m = 0.0f;
    for (i = j; i < $size; i += $channels)
        for (k = i; k < i + $width; k++) { $x[k] -= t; m += $x[k]; }
    m /= $numbers.0f;
    t = 0.0f;
    for (i = j; i < $size; i += $channels)
        for (k = i; k < i + $width; k++) { $x[k] -= m; t += $x[k] * $x[k]; }
    t = 1.0f / sqrtf(t / $numbers.0f + $eps);
    for (i = j; i < $size; i += $channels)
        for (k = i; k < i + $width; k++) $x[k] = $x[k] * t * $scale[k - i + j] + $offset[k - i + j];
}"""
    width, eps = shape[-1] // step.numbers["groups"], _literal(np.float32(step.numbers["eps"]))
    names = {"size": prod(shape), "channels": shape[-1], "width": width, "numbers": prod(shape[:-1]) * width}
    source.add(body, **names, x=x, eps=eps, scale=scale, offset=offset)
    return x


def _embedding(source: Source, step: Step, x: str, shape: Shape) -> str:
    size, features = step.numbers["table"].shape
    table, y = source.constant(step.numbers["table"]), source.buffer(prod(step.shape))
    body = """
for (i = 0; i < $count; i++) { /* embedding; nan for what is no category */
    j = $x[i] >= 0.0f && $x[i] < $size.0f && floorf($x[i]) == $x[i] ? (int)$x[i] : -1;
    for (k = 0; k < $features; k++) $y[i * $features + k] = j < 0 ? NAN : $table[j * $features + k];
}"""
    source.add(body, count=prod(shape), size=size, features=features, table=table, x=x, y=y)
    return y


def _softmax(source: Source, step: Step, x: str, shape: Shape) -> str:
    body = """
for (i = 0; i < $size; i += $classes) { /* softmax */
    m = $x[i];
    for (k = 1; k < $classes; k++) if ($x[i + k] > m) m = $x[i + k];
    t = 0.0f;
    for (k = 0; k < $classes; k++) { $x[i + k] = expf($x[i + k] - m); t += $x[i + k]; }
    for (k = 0; k < $classes; k++) $x[i + k] /= t;
}"""
    source.add(body, size=prod(shape), classes=shape[-1], x=x)
    return x


def _flatten(source: Source, step: Step, x: str, shape: Shape) -> str:
    return x  # the numbers lie in that order


def _residual(source: Source, step: Step, x: str, shape: Shape) -> str:
    y = source.buffer(prod(shape))
    source.add("for (i = 0; i < $size; i++) $y[i] = $x[i]; /* shortcut */", size=prod(shape), x=x, y=y)
    y = write_steps(source, step.inner, y, shape)
    source.add("for (i = 0; i < $size; i++) $y[i] += $x[i];", size=prod(shape), x=x, y=y)
    return y


_LAYERS: dict[str, Write] = {
    "linear": _linear,
    "affine": _affine,
    "layer_norm": _layer_norm,
    "group_norm": _group_norm,
    "rms_norm": _rms_norm,
    "embedding": _embedding,
    "softmax": _softmax,
    "flatten": _flatten,
    "residual": _residual,
}

# ---- activations: `t` is the number, `$alpha` the slope of its channel

_FORMULAS = {
    "relu": "t > 0.0f ? t : 0.0f",
    "leaky_relu": "t > 0.0f ? t : $alpha * t",
    "elu": "t > 0.0f ? t : $alpha * expm1f(t)",
    "selu": "1.05070098735548f * (t > 0.0f ? t : 1.67326324235438f * expm1f(t))",
    "gelu": "0.5f * t * erfcf(-0.707106781186548f * t)",
    "silu": "t / (1.0f + expf(-t))",
    "softplus": "(t > 0.0f ? t : 0.0f) + log1pf(expf(-fabsf(t)))",
    "softsign": "t / (1.0f + fabsf(t))",
    "sigmoid": "1.0f / (1.0f + expf(-t))",
    "tanh": "tanhf(t)",
}


def _write_formula(source: Source, formula: str, step: Step, x: str) -> None:
    shape = step.shape or (1,)
    alpha = ""
    if "$alpha" in formula:
        slopes = step.numbers["alpha"]
        name = source.constant(slopes)
        alpha = f"{name}[i % {shape[-1]}]" if slopes.ndim else f"{name}[0]"
    body = "for (i = 0; i < $size; i++) { t = $x[i]; $x[i] = $formula; } /* $kind */"
    source.add(body.replace("$formula", formula), size=prod(shape), x=x, kind=step.kind, alpha=alpha)
