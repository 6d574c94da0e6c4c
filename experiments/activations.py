"""Activations: ten functions, their derivatives, and what the documents say of them.

Question: do the activations give the documents' numbers, at the infinities too, and the properties named there?
Source:   D3: formulas and printed numbers of sigmoid, tanh, ReLU, leaky ReLU and softmax, function and derivative
          drawn of the first four; PReLU, RReLU, ELU, softplus, softsign; the facts noted beside them.
Command:  python -m experiments activations
Time:     about 4 seconds on two CPU cores.
Expected: every number to float32's printing, 2e-7; tanh written out as (e^x - e^-x)/(e^x + e^-x) is nan at ±inf,
          ours is ±1. The equivalent forms agree to the last digit or two.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure as Picture

import fnn
from experiments.report import IN_WORDS, PUBLISHED, Figure, Result, Row, at_most, close, holds
from fnn import plots

SLOPE = 0.2  # of leaky ReLU, as D3 has it
INFINITY = float("inf")
FUNCTION, DERIVATIVE = plots.LINE_COLOURS[:2]
LAST_DIGITS = 2 * float(np.finfo(np.float32).epsneg)  # two units of the last place of a float32 below 1

NUMBERS = (  # name, function, x, what D3 prints
    ("sigmoid", fnn.sigmoid, (1, 2, 3), (0.7310586, 0.8807971, 0.95257413)),
    ("tanh", fnn.tanh, (-INFINITY, -5, -0.5, 1, 1.2, 2, 3, INFINITY),
     (-1, -0.99990916, -0.46211717, 0.7615942, 0.8336547, 0.9640276, 0.9950547, 1)),
    ("ReLU", fnn.relu, (-2, 0, -0.0, 3), (0, 0, 0, 3)),
    ("leaky ReLU", fnn.leaky_relu(SLOPE), (-2, 0, -0.0, 3), (-0.4, 0, 0, 3)),
    ("softmax", fnn.softmax, (4, 5, 1), (0.26538792, 0.7213992, 0.01321289)),
)  # fmt: skip
FORMS = (  # name, the form written out, x, place of the number, what D3 prints for it
    ("sigmoid as 1/(1 + e^-x)", lambda x: 1 / (1 + jnp.exp(-x)), (1, 2, 3), 1, 0.880797),
    ("tanh as (e^x - e^-x)/(e^x + e^-x)", lambda x: tanh_written_out(x), (1, 2, 3), 1, 0.9640275),
    ("softmax as e^z/Σ e^z", lambda z: jnp.exp(z) / jnp.exp(z).sum(), (4, 5, 1), 1, 0.72139925),
)  # fmt: skip


class Settings(NamedTuple):
    """Sizes."""

    points: int = 401  # of each curve


def main(settings: Settings) -> Result:
    """The printed numbers, the facts, the pictures."""
    return Result(
        title="Activations",
        question="The activations give the documents' numbers, and the properties that they name?",
        rows=[*number_rows(), *infinity_rows(), *form_rows(), *fact_rows()],
        figures=[
            Figure("Function and derivative", "The four that D3 draws. Saturation is where the derivative is near 0.",
                   four(settings.points)),
            Figure("The others", "PReLU at its first slope, 0.25, which is then learned. RReLU draws its slope from "
                   "[1/8, 1/3) for every element while it trains (dots) and uses their mean afterwards. Softmax: the "
                   "first of three outputs, as z1 changes and z2 = z3 = 0.", others(settings.points)),
        ],
        notes=[
            "A zero of either sign counts as 0: ReLU of -0 is 0 here and may be -0 elsewhere.",
            "D3 prints most of them twice, by equivalent forms, which differ in the last digit or two. Here the forms "
            f"are written out in float32 and compared to two units of the last place below 1, {LAST_DIGITS:.2g}.",
            "At a kink the derivative is that of the left side: 0 for ReLU, the slope for leaky ReLU.",
        ],
        numbers={name: np.asarray(function(jnp.array(x, jnp.float32))) for name, function, x, _ in NUMBERS},
    )  # fmt: skip


def tanh_written_out(x: Any) -> jax.Array:
    """D3's second form, naively: nan where e^x or e^-x is infinite."""
    return (jnp.exp(x) - jnp.exp(-x)) / (jnp.exp(x) + jnp.exp(-x))


# ---- what is reported


def number_rows() -> list[Row]:
    """What D3 prints."""
    rows = []
    for name, function, x, printed in NUMBERS:
        y = function(jnp.array(x, jnp.float32))
        places = [f"{name}({v:g})" if name != "softmax" else f"softmax([4,5,1]), at {v}" for v in x]
        rows += [close(place, p, float(v)) for place, p, v in zip(places, printed, y, strict=True)]
    return rows


def infinity_rows() -> list[Row]:
    """Where the second form of tanh breaks."""
    ends = jnp.array([-INFINITY, INFINITY])
    naive, ours = tanh_written_out(ends), fnn.tanh(ends)
    return [
        holds("(e^x - e^-x)/(e^x + e^-x) at -inf and inf", "nan, nan", f"{naive[0]:g}, {naive[1]:g}", "nan at both",
              bool(jnp.isnan(naive).all()), PUBLISHED),
        holds("fnn.tanh at -inf and inf", "not nan", f"{ours[0]:g}, {ours[1]:g}", "-1 and 1",
              bool((ours == jnp.array([-1.0, 1.0])).all()), PUBLISHED),
    ]  # fmt: skip


def form_rows() -> list[Row]:
    """The equivalent forms."""
    rows = []
    for name, form, x, place, printed in FORMS:
        value = float(form(jnp.array(x, jnp.float32))[place])
        off = value - printed
        rows.append(Row(f"{name}, x = {x[place]}", PUBLISHED, f"{printed}", f"{value:.8g}", f"{off:+.2g}",
                        f"± {LAST_DIGITS:.2g}: last digit or two", abs(off) <= LAST_DIGITS))  # fmt: skip
    return rows


def fact_rows() -> list[Row]:
    """What D3 notes of them, where it can be put into a number."""
    far, x = jnp.array([-20.0, 20.0]), np.linspace(-6, 6, 101, dtype=np.float32)
    slope = max(float(f.derivative(far).max()) for f in (fnn.sigmoid, fnn.tanh))
    outputs = np.asarray(fnn.sigmoid(x))
    lowest, mean = float(outputs.min()), float(outputs.mean())
    gain, unit = dead_unit()
    return [
        at_most("Sigmoid and tanh saturate: largest derivative at ±20", 1e-8, slope, IN_WORDS),
        holds("Sigmoid is not zero-centred, x from -6 to 6", "mean not 0", f"mean {mean:.2f}, lowest {lowest:.4f}",
              "all outputs above 0", lowest > 0),
        holds("A ReLU unit whose input is always negative", "zero gradient", f"{unit:g} (alive: {gain:.3g})",
              "exactly 0, for leaky ReLU not", unit == 0 and gain != 0),
        at_most("Linear layers without activations equal one: difference", 1e-5, linear_difference(), IN_WORDS),
    ]  # fmt: skip


def dead_unit() -> tuple[float, float]:
    """The largest derivative by the weights of one unit with bias -100: behind leaky ReLU, and behind ReLU."""
    x = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    params = ({"w": np.ones((3, 1), np.float32), "b": np.array([-100], np.float32)}, ())
    largest = []
    for activation in (fnn.leaky_relu(SLOPE), fnn.relu):
        net = fnn.serial(fnn.dense(1), activation)
        gradient = jax.jit(fnn.backprop(net, fnn.losses.squared_error))
        by_w = gradient(params, ((), ()), x, np.ones((50, 1), np.float32)).grads[0]["w"]
        largest.append(float(np.abs(by_w).max()))
    return largest[0], largest[1]


def linear_difference() -> float:
    """Three dense layers without activations against the product of their matrices, relative to the outputs."""
    net = fnn.serial(*(fnn.dense(n, bias=False) for n in (5, 4, 2)))
    rng = np.random.default_rng(0)
    x, a, b, c = (rng.normal(size=shape).astype(np.float32) for shape in ((20, 3), (3, 5), (5, 4), (4, 2)))
    y, _, _ = net.forward(({"w": a}, {"w": b}, {"w": c}), ((), (), ()), jnp.asarray(x), None, False)
    return float(np.abs(y - x @ (a @ b @ c)).max() / np.abs(y).max())


# ---- pictures


def four(points: int) -> Picture:
    """D3's four, each with its derivative."""
    picture = Picture(figsize=(11, 6.6), layout="constrained")
    functions = {"sigmoid": fnn.sigmoid, "tanh": fnn.tanh, "ReLU": fnn.relu,
                 f"leaky ReLU, α = {SLOPE}": fnn.leaky_relu(SLOPE)}  # fmt: skip
    x, curves = of_functions(functions, points)
    for ax, name in zip(picture.subplots(2, 2).flat, curves, strict=True):
        _panel(ax, name, x, *curves[name])
    return picture


def others(points: int) -> Picture:
    """The other six of D3's ten."""
    picture = Picture(figsize=(11, 6.6), layout="constrained")
    x, curves = of_functions({"ELU, α = 1": fnn.elu(), "softplus": fnn.softplus, "softsign": fnn.softsign}, points)
    curves["PReLU"], curves["RReLU"] = of_layer(fnn.prelu(), x), of_layer(fnn.rrelu(), x)
    curves["softmax of (x, 0, 0), the first"] = of_softmax(x)
    axes = dict(zip(curves, picture.subplots(2, 3).flat, strict=True))
    for name, curve in curves.items():
        _panel(axes[name], name, x, *curve)
    in_training, _ = of_layer(fnn.rrelu(), x, jax.random.key(0))
    axes["RReLU"].plot(x[::4], in_training[::4], ".", color=FUNCTION, markersize=3, alpha=0.6, label="while it trains")
    axes["RReLU"].legend(frameon=False, fontsize="small")
    return picture


def of_functions(functions: dict[str, fnn.Activation], points: int) -> tuple[np.ndarray, dict[str, Any]]:
    """Where they are drawn; each one's values and derivatives. One program: it compiles sooner than its operations."""
    x = np.linspace(-6, 6, points, dtype=np.float32)
    curves = jax.jit(lambda x: [(f(x), f.derivative(x)) for f in functions.values()])(x)
    return x, dict(zip(functions, curves, strict=True))


@jax.jit
def of_softmax(x: Any) -> tuple[jax.Array, jax.Array]:
    """The first of three outputs, and its derivative by the first input; the other inputs are 0."""
    rows = jnp.stack([x, jnp.zeros_like(x), jnp.zeros_like(x)], 1)
    return fnn.softmax(rows)[:, 0], fnn.softmax.derivative(rows)[:, 0, 0]


def of_layer(layer: fnn.Layer, x: Any, key: Any = None) -> tuple[jax.Array, jax.Array]:
    """Outputs of a layer and their derivatives; with a key as it trains."""

    def both(x: Any) -> tuple[jax.Array, jax.Array]:
        params, state, _ = layer.init(jax.random.key(0), (1,))
        y, _, cache = layer.forward(params, state, x[:, None], key, key is not None)
        return y[:, 0], layer.backward(params, cache, jnp.ones_like(y))[1][:, 0]

    return jax.jit(both)(x)


def _panel(ax: Any, name: str, x: Any, y: Any, slope: Any) -> None:
    """One function and its derivative. A derivative that jumps gets a gap there instead of a slanted line."""
    slope = np.array(slope)
    slope[1:][np.abs(np.diff(slope)) > 0.5 * np.ptp(slope) + 1e-6] = math.nan
    ax.axhline(0, color="#dddddd", linewidth=0.8)
    ax.axvline(0, color="#dddddd", linewidth=0.8)
    ax.plot(x, y, color=FUNCTION, label="function")
    ax.plot(x, slope, color=DERIVATIVE, linestyle="--", label="derivative")
    ax.set_title(name, fontsize="medium")
    ax.set(xlabel="x", ylabel="f(x), f'(x)")
    ax.legend(frameon=False, fontsize="small")
    ax.tick_params(labelsize="small")
    ax.spines[["top", "right"]].set_visible(False)
