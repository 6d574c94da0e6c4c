"""Pictures of a training run, of what a network has learnt and of what a study found, by matplotlib, imported on use.

Each function draws on the axes `ax` if it is given some, else on a new figure, and returns the figure, for `savefig`.
Figures are made directly, not through pyplot: no display is needed, and no global list keeps them alive.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn import arguments
from fnn.activations import Activation
from fnn.plots.axes import LINE_COLOURS, Axes, Figure, axes, finish
from fnn.runs import History, Run
from fnn.schedules import as_schedule
from fnn.types import ArrayLike


def curves(
    histories: Run | History | ArrayLike | Mapping[str, Run | History | ArrayLike],
    *,
    xlabel: str = "epoch",
    ylabel: str = "cost",
    log: bool = False,
    ax: Axes | None = None,
) -> Figure:
    """Cost against epoch: training solid, validation dashed, the best epoch marked if there is validation.

    Args:
        histories: a run, or its history, or costs, one per epoch; or a dict from names to these. The best epoch of a
            run is the one that its parameters are from, of a history the one with the lowest validation cost.
        xlabel: what is counted, from 0: "iteration" where an epoch is one full-batch step.
        ylabel: the cost, with its unit if it has one.
        log: a logarithmic axis for the cost.
        ax: draw here.

    Returns:
        The matplotlib figure.

    >>> from fnn import plots
    >>> figure = plots.curves({"slow": [3.0, 2.0, 1.5], "fast": [3.0, 0.5, 0.1]})
    >>> [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    ['slow', 'fast']
    """
    words = {"xlabel": xlabel, "ylabel": ylabel}
    for name, text in words.items():
        arguments.instance(name, text, str, "Pass text.", "text")
    log = arguments.flag("log", log)
    figure, ax = axes(ax)
    named = histories if isinstance(histories, Mapping) else {"": histories}
    if not named:
        raise ValueError("histories: expected at least one, got an empty dict. Pass what fit returned.")
    for i, (name, history) in enumerate(named.items()):
        _curve(ax, history, name, LINE_COLOURS[i % len(LINE_COLOURS)])
    ax.set(xlabel=xlabel, ylabel=ylabel)
    if log:
        ax.set_yscale("log")
    return finish(figure, ax)


def _curve(ax: Axes, history: Run | History | ArrayLike, name: str, colour: str) -> None:
    """One history's lines."""
    best = history.best_epoch if isinstance(history, Run) else None
    history = history.history if isinstance(history, Run) else history
    of = f"histories[{name!r}]" if name else "histories"
    loss, validation = (history.loss, history.validation_loss) if isinstance(history, History) else (history, None)
    loss = arguments.as_numpy(of, loss, "a run, its history, or costs")
    if loss.ndim != 1 or loss.dtype.kind not in "fiu":
        got = f"{loss.dtype}{list(loss.shape)}"
        raise TypeError(f"{of}: expected one cost per epoch, got {got}. Pass what fit returned, or a list.")
    before = f"{name}, " if name else ""
    ax.plot(loss, color=colour, label=name if name and validation is None else f"{before}training")
    if validation is None:
        return
    values = np.asarray(validation)
    ax.plot(values, color=colour, linestyle="--", label=f"{before}validation")
    if best is None and np.isfinite(values).any():
        best = int(np.nanargmin(values))
    if best is not None:
        label = f"{before}best: {values[best]:.3g} at {best}"
        ax.plot(best, values[best], "o", color=colour, markersize=7, markerfacecolor="white", label=label)


# ---- small things


def schedules(named: Mapping[str, Any], steps: int, *, ax: Axes | None = None) -> Figure:
    """Learning rates against the step, one value per step.

    Args:
        named: name -> schedule, a function from a step to a learning rate (`fnn.schedules`, optax).
        steps: how many, from 0.
        ax: draw here.

    >>> from fnn import plots, schedules
    >>> figure = plots.schedules({"staircase": schedules.exponential_decay(0.5, 10, 0.9, staircase=True)}, 400)
    >>> figure.axes[0].get_xlabel()
    'step'
    """
    steps = arguments.whole_number("steps", steps, 1)
    hint = "Pass {'decay': fnn.schedules.linear_decay(0.1, 0.0, 100)}."
    arguments.instance("named", named, Mapping, hint, "a dict, name -> schedule")  # type: ignore[type-abstract]
    if not named:
        raise ValueError(f"named: expected at least one schedule, got an empty dict. {hint}")
    figure, ax = axes(ax)
    at = np.arange(steps, dtype=np.int32)
    for i, (name, schedule) in enumerate(named.items()):
        rate = as_schedule(f"named[{name!r}]", schedule)
        with jax.numpy_dtype_promotion("standard"):  # schedules of optax mix the integer step with floats
            values = jax.vmap(rate)(at)
        if isinstance(values, jax.core.Tracer):
            got = arguments.describe_thing(values)
            raise TypeError(f"named[{name!r}]: expected known numbers, got {got}. Call this outside of jit.")
        ax.step(at, values, where="mid", color=LINE_COLOURS[i % len(LINE_COLOURS)], label=name)
    ax.set(xlabel="step", ylabel="learning rate")
    return finish(figure, ax)


def activation(function: Activation, low: float = -5.0, high: float = 5.0, *, ax: Axes | None = None) -> Figure:
    """An elementwise activation and its derivative.

    Args:
        function: such as `fnn.tanh`, or your own by `fnn.elementwise`.
        low, high: the range of inputs.
        ax: draw here.

    >>> import fnn
    >>> from fnn import plots
    >>> [text.get_text() for text in plots.activation(fnn.tanh).axes[0].get_legend().get_texts()]
    ['tanh', 'derivative']
    """
    arguments.instance("function", function, Activation, "Pass fnn.tanh, say, or your own by fnn.elementwise.")
    low, high = arguments.number("low", low), arguments.number("high", high)
    if not low < high:
        raise ValueError(f"low: expected low below high, got {low:g} and {high:g}. Swap or widen them.")
    figure, ax = axes(ax)
    x = np.linspace(low, high, 401, dtype=np.float32)
    ax.plot(x, np.asarray(function(x)), color=LINE_COLOURS[0], label=str(function))
    ax.plot(
        x, np.asarray(function.derivative(jnp.asarray(x))), color=LINE_COLOURS[1], linestyle="--", label="derivative"
    )
    ax.set(xlabel="input", ylabel="output")
    return finish(figure, ax)
