"""Complexity: how large a network is, counted as the documents do.

Question: are layers, parameters and multiply-adds those of the documents, and the operations those of the compiler?
Source:   D3: the 3-4-2 network has 2 layers, 26 parameters and 20 multiply-adds.
Command:  python -m experiments complexity
Time:     about 1 second on two CPU cores.
Expected: the three numbers exactly; the operations of a 784-512-512-10 network within 2 % of what XLA counts in the
          compiled forward pass, which also has the biases and the ReLUs in it.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from matplotlib.figure import Figure as Picture

import fnn
from experiments import digits
from experiments.report import OURS, PUBLISHED, Figure, Result, Row, holds
from fnn import plots

WITHIN = 0.02


class Settings(NamedTuple):
    """Sizes."""

    rows: int = 128  # of the batch that XLA's count is taken from


class Counted(NamedTuple):
    """A network, the shape of an example, and its numbers."""

    name: str
    net: fnn.Layer
    in_shape: tuple[int, ...]
    size: Any


def main(settings: Settings) -> Result:
    """Count three networks, and ask the compiler about the largest."""
    small, middle, large = (Counted(name, net, shape, fnn.summary(net, shape)) for name, net, shape in networks())
    by_xla = flops_of_xla(large.net, large.in_shape, settings.rows)
    ours = 2 * large.size.multiply_adds
    return Result(
        title="Complexity",
        question="Are layers, parameters and multiply-adds those of the documents, and the operations the compiler's?",
        rows=[
            *(
                equal(f"3-4-2: {what}", claimed, found, PUBLISHED)
                for what, claimed, found in (
                    ("layers (hidden layers + 1)", 2, small.size.layers),
                    ("parameters, [3×4+4] + [4×2+2]", 26, small.size.parameters),
                    ("multiply-adds, 3×4 + 4×2", 20, small.size.multiply_adds),
                )
            ),
            equal("3-4-2: numbers in the output maps, 4 + 4 + 2", 10, small.size.output_maps),
            equal("Digits: parameters, [64×64+64] + [64×32+32] + [32×10+10]", 6570, middle.size.parameters),
            equal("Digits: multiply-adds, 64×64 + 64×32 + 32×10", 6464, middle.size.multiply_adds),
            within("784-512-512-10: operations a row, two a multiply-add, against XLA's count", by_xla, ours),
        ],
        figures=[
            Figure("The summary tables", "What print(fnn.summary(net, in_shape)) shows.",
                   tables([small, middle, large])),
            Figure("Where the size is", "Parameters, multiply-adds and output map of each layer of 784-512-512-10. "
                   "Layers without parameters still put out a map.", bars(large)),
        ],
        notes=[
            "Multiply-adds and output maps are those of one example, the input is not counted among the maps.",
            "XLA's count is that of jax.jit(forward).lower(…).compile().cost_analysis(), for a batch of "
            f"{settings.rows} rows, divided by their number. It has additions of biases and comparisons of ReLU in it: "
            f"{by_xla:,.0f} against {ours:,}.",
        ],
        numbers={"xla": by_xla, "ours": ours, "sizes": [c.size for c in (small, middle, large)]},
    )  # fmt: skip


def networks() -> list[tuple[str, fnn.Layer, tuple[int, ...]]]:
    """D3's example, the network that reads digits, and one of a size that matters."""
    return [
        ("3-4-2", fnn.serial(fnn.dense(4), fnn.relu, fnn.dense(2)), (3,)),
        ("64-64-32-10, the digits", digits.network(), (64,)),
        ("784-512-512-10", fnn.serial(fnn.dense(512), fnn.relu, fnn.dense(512), fnn.relu, fnn.dense(10)), (784,)),
    ]


def flops_of_xla(net: fnn.Layer, in_shape: tuple[int, ...], rows: int) -> float:
    """Floating-point operations a row in the compiled forward pass, by XLA's own analysis."""
    params, state = jax.eval_shape(lambda key: net.init(key, in_shape)[:2], jax.random.key(0))  # no number is drawn
    x = jax.ShapeDtypeStruct((rows, *in_shape), jnp.float32)
    forward = jax.jit(lambda params, state, x: net.forward(params, state, x, None, False)[0])
    analysis: Any = forward.lower(params, state, x).compile().cost_analysis()
    return float(analysis["flops"]) / rows


# ---- what is reported


def equal(quantity: str, claimed: int, found: int, origin: str = OURS) -> Row:
    """A count."""
    return holds(quantity, f"{claimed:,}", f"{found:,}", "equal", claimed == found, origin)


def within(quantity: str, claimed: float, found: float) -> Row:
    """A count of another's, to within a share."""
    off = found / claimed - 1
    return Row(quantity, OURS, f"{claimed:,.0f}", f"{found:,}", f"{100 * off:+.2f} %", f"± {100 * WITHIN:g} %",
               abs(off) <= WITHIN)  # fmt: skip


# ---- pictures


def tables(counted: list[Counted]) -> list[str]:
    """The tables as they are printed."""
    return [f"{one.name}\n\n{one.size}" for one in counted]


def bars(counted: Counted) -> Picture:
    """Three sizes a layer, on one logarithmic axis."""
    picture = Picture(figsize=(5.6, 4.4), layout="constrained")
    ax = picture.add_subplot()
    layers = counted.size.rows
    for i, (name, values) in enumerate((
        ("parameters", [row.parameters for row in layers]),
        ("multiply-adds", [row.multiply_adds for row in layers]),
        ("output map", [row.out_shape[0] for row in layers]),
    )):  # fmt: skip
        places = [j + 0.27 * (i - 1) for j in range(len(layers))]
        ax.bar(places, values, width=0.25, color=plots.LINE_COLOURS[i], label=name)
    ax.set_xticks(range(len(layers)), [row.name for row in layers])
    ax.set(xlabel="layer, in the order of the forward pass", ylabel="numbers, for one example")
    ax.set(yscale="log", ylim=(1, None))
    ax.tick_params(labelsize="small")
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, fontsize="small", ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return picture
