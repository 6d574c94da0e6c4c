"""Learning rates that fall: exponentially, in steps, in a line.

Question: do the schedules follow the documents' rules at every step, the boundaries included?
Source:   D3: exponential decay, smooth and staircase, in one picture; piecewise constant values; D2: an update of
          0.02/300 an iteration, which is a linear decay.
Command:  python -m experiments learning_rates
Time:     about 1 second on two CPU cores.
Expected: all of steps 0 to 399 to float32 precision; a boundary's own step still has the value before it.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure as Picture

import fnn
from experiments.report import OURS, PUBLISHED, Figure, Result, Row, at_most, close, holds
from fnn import plots

INITIAL, DECAY_STEPS, RATE = 0.5, 10, 0.9
BOUNDARIES, VALUES = (100, 200, 300), (0.1, 0.05, 0.025, 0.001)
D2_INITIAL, D2_ITERATIONS = 0.02, 300
PRECISION = 4 * float(np.finfo(np.float32).eps)  # the exponent goes to 4.2, and so does what its rounding costs


class Settings(NamedTuple):
    """Sizes; the default is D3's."""

    steps: int = 400


def main(settings: Settings) -> Result:
    """Each schedule at every step, against the documents' rule in float64."""
    steps = np.arange(settings.steps)
    lrs = {name: np.asarray(schedule(steps)) for name, schedule in schedules().items()}
    return Result(
        title="Learning rates that fall",
        question="The schedules follow the documents' rules at every step, the boundaries included?",
        rows=[*rule_rows(lrs, steps), *boundary_rows(), *linear_rows()],
        figures=figures(lrs, settings.steps),
        notes=[
            "Steps are counted from 0, and a step is one update of the weights. (D3's code line counts epochs, its "
            "formula steps.)",
            "A schedule that changes at a boundary instead of after it, as optax.piecewise_constant_schedule does, is "
            "one step early by D3's rule.",
            "D2 sets its linear decay up and never applies it. Here it is only drawn.",
            "What the documents publish here is rules with their numbers, and pictures; the values of single steps are "
            "computed from the rules.",
        ],
        numbers=lrs,
    )


def schedules() -> dict[str, Callable[[Any], Any]]:
    """D3's examples and D2's."""
    make = fnn.schedules
    return {
        "smooth": make.exponential_decay(INITIAL, DECAY_STEPS, RATE),
        "staircase": make.exponential_decay(INITIAL, DECAY_STEPS, RATE, staircase=True),
        "piecewise constant": make.piecewise_constant(BOUNDARIES, VALUES),
        "linear": make.linear_decay(D2_INITIAL, 0.0, D2_ITERATIONS),
    }


def rules(step: int) -> dict[str, float]:
    """The same by the documents' formulas, in Python's floats."""
    value = next((v for v, end in zip(VALUES, BOUNDARIES, strict=False) if step <= end), VALUES[-1])
    return {
        "smooth": INITIAL * RATE ** (step / DECAY_STEPS),
        "staircase": INITIAL * RATE ** (step // DECAY_STEPS),
        "piecewise constant": value,
        "linear": max(0.0, D2_INITIAL - D2_INITIAL / D2_ITERATIONS * step),
    }


# ---- what is reported


def rule_rows(lrs: dict[str, np.ndarray], steps: np.ndarray) -> list[Row]:
    """The largest departure from each rule over all steps, relative to the rule's value at that step."""
    expected = [rules(int(step)) for step in steps]
    rows = []
    for name, title in (
        ("smooth", "Exponential decay"),
        ("staircase", "The same, staircase"),
        ("piecewise constant", "Piecewise constant"),
    ):
        rule = np.array([e[name] for e in expected])
        off = float((np.abs(lrs[name] - rule) / rule).max())
        rows.append(at_most(f"{title}, steps 0 to {len(steps) - 1}: largest relative error", PRECISION, off))
    return rows


def boundary_rows() -> list[Row]:
    """On both sides of each boundary."""
    schedule = schedules()["piecewise constant"]
    return [
        close(f"Piecewise constant at step {step}", rules(step)["piecewise constant"], float(schedule(step)),
              origin=PUBLISHED)
        for step in (100, 101, 200, 201, 300, 301)
    ]  # fmt: skip


def linear_rows() -> list[Row]:
    """D2's decay."""
    schedule = schedules()["linear"]
    start, second, half, end, later = (float(schedule(step)) for step in (0, 1, 150, 300, 400))
    return [
        close("Linear decay at step 0", D2_INITIAL, start, origin=PUBLISHED),
        close("Linear decay at step 1, less by 0.02/300", D2_INITIAL - D2_INITIAL / D2_ITERATIONS, second),
        close("Linear decay at step 150", D2_INITIAL / 2, half, origin=OURS),
        holds("Linear decay at steps 300 and 400", "0", f"{end:g}, {later:g}", "exactly 0", end == later == 0, OURS),
    ]  # fmt: skip


# ---- pictures


def figures(lrs: dict[str, np.ndarray], steps: int) -> list[Figure]:
    """D3's two pictures, and D2's decay."""
    last = steps - 1
    smooth, stairs = lrs["smooth"], lrs["staircase"]
    return [
        Figure("Exponential decay", f"From {INITIAL}, by {RATE} every {DECAY_STEPS} steps, steps 0 to {last}. Both "
               "forms meet at every tenth step; between them the staircase lies above.",
               drawn({"smooth": smooth, "staircase": stairs}, inset=60)),
        Figure("Piecewise constant", f"Values {', '.join(map(str, VALUES))}; each boundary's own step has the value "
               "before it.", drawn({"piecewise constant": lrs["piecewise constant"]}, marks=BOUNDARIES)),
        Figure("Linear decay", f"From {D2_INITIAL} by {D2_INITIAL}/{D2_ITERATIONS} a step, 0 from step {D2_ITERATIONS} "
               "on.", drawn({"linear": lrs["linear"]})),
    ]  # fmt: skip


def drawn(lrs: dict[str, np.ndarray], inset: int = 0, marks: tuple[int, ...] = ()) -> Picture:
    """Learning rates against the step: one value per step, so no slanted line where a value jumps."""
    picture = Picture(figsize=(5.6, 4.4), layout="constrained")
    ax = picture.add_subplot()
    axes = [ax, ax.inset_axes((0.4, 0.36, 0.57, 0.46))] if inset else [ax]
    for one, count in zip(axes, (None, inset), strict=False):
        for (name, values), colour in zip(lrs.items(), plots.LINE_COLOURS, strict=False):
            style = "steps-mid" if name == "piecewise constant" or (count and name == "staircase") else "default"
            one.plot(values[:count], color=colour, linewidth=1.3, drawstyle=style, label=name)
        one.spines[["top", "right"]].set_visible(False)
        one.tick_params(labelsize="small")
    if inset:
        axes[1].set_title(f"the first {inset} steps", fontsize="small")
    for mark in marks:
        ax.axvline(mark, color="#bbbbbb", linewidth=0.8, linestyle=":", label="boundary" if mark == marks[0] else None)
    ax.set(xlabel="step", ylabel="learning rate", ylim=(0, None))
    ax.legend(frameon=False, fontsize="small")
    return picture
