"""`fit`: the host's loop around the fused one. It checks what it is given, then runs compiled segments, and between
them does what only a host can: progress, warnings, the history. There is no callback inside the program."""

import functools
import hashlib
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from fnn import checks
from fnn.batches import sizes
from fnn.gradients import autodiff
from fnn.train import LONGEST_HISTORY, given, given_loss, trainer
from fnn.types import Data, History, Layer, Part, Run, TrainingDiverged, TrainState

SEGMENT_SECONDS = 0.5
OWN_SETTINGS = ("patience", "min_delta")


def fit(
    net: Layer,
    loss: Any,
    optimizer: Any,
    data: tuple[Any, Any],
    *,
    epochs: int,
    key: Any = 0,
    batch_size: int | None = None,
    settings: dict[str, float] | None = None,
    validation: tuple[Any, Any] | None = None,
    weights: Any = None,
    metrics: dict[str, Any] | None = None,
    penalty: Any = None,
    gradient: Callable[..., Any] = autodiff,
    reduction: str = "mean",
    shuffle: bool = True,
    patience: int | None = None,
    min_delta: float = 0.0,
    params: Any = None,
    state: Any = None,
    progress: bool = True,
) -> Run:
    """Train a network.

    Args:
        net, loss, optimizer, penalty: as for `fnn.trainer`; each may be a function of the settings.
        data: `(x, t)`, inputs and targets, as lists, NumPy, pandas or JAX arrays with as many rows each.
        epochs: how often every row is used.
        key: an integer seed, or a `jax.random.key`; equal keys give equal runs.
        batch_size: rows a step, the last batch may be smaller; None is the full batch, rows in the given order.
        settings: named numbers that may differ from call to call without compiling again.
        validation: `(x, t)`; the parameters with the lowest mean loss on it are returned.
        weights: one a row of `data`, at least 0; weight k counts as k copies of the row.
        metrics: name -> function `(outputs, targets) -> (batch,)`, such as `fnn.accuracy`.
        gradient: `fnn.autodiff`, or `fnn.backprop` to train by the hand-derived rules alone.
        reduction: "mean" over a batch's rows, or "sum".
        shuffle: a new order of the rows every epoch (with batches smaller than the data).
        patience: stop after so many epochs without a lower validation loss; None never.
        min_delta: how much lower the validation loss must be to count.
        params, state: start from these instead of fresh ones; they are copied.
        progress: show a bar on a terminal (with the extra `progress` installed).

    Returns:
        `Run(params, state, history, train_state)`. `params` are the best by validation loss, without validation the
        last finite ones; `train_state.params` are the last. `history.loss` and the others are NumPy arrays, one value
        an epoch, counted as the rows were trained on.

    Raises:
        ValueError, TypeError: the data, the targets or an argument are not usable; before anything compiles.

    Warns:
        TrainingDiverged: a cost or a parameter became nan or inf; says where. The finite parameters are returned.

    >>> import fnn, numpy as np, optax
    >>> x = np.linspace(-1, 1, 64, dtype="float32")[:, None]
    >>> net = fnn.serial(fnn.dense(16), fnn.tanh, fnn.dense(1))
    >>> run = fnn.fit(net, fnn.losses.squared_error, optax.adam(0.02), (x, np.sin(3 * x)), epochs=400, batch_size=16)
    >>> print(run.history.loss.shape, bool(run.history.loss[-1] < 0.01))
    (400,) True
    """
    epochs = checks.whole_number("epochs", epochs, 0)
    batch_size = None if batch_size is None else checks.whole_number("batch_size", batch_size, 1)
    reduction = checks.one_of("reduction", reduction, ("mean", "sum"))
    patience = None if patience is None else checks.whole_number("patience", patience, 1)
    if patience is not None and validation is None:
        raise ValueError("patience: expected validation data to judge by, got none. Do pass validation=(x, t).")
    if not callable(gradient):
        raise TypeError(f"gradient: expected fnn.autodiff or fnn.backprop, got {gradient!r}. Do pass the function.")
    if metrics is not None and not isinstance(metrics, dict):
        got = type(metrics).__name__
        raise TypeError(
            f"metrics: expected a dict, name -> function, got {got}. Do write {{'accuracy': fnn.accuracy}}."
        )
    numbers = checks.settings(settings, OWN_SETTINGS)
    numbers |= {"patience": np.inf if patience is None else patience, "min_delta": min_delta}
    key = jax.random.key(checks.whole_number("key", key, 0)) if isinstance(key, (int, np.integer)) else key
    dtype = _dtype(params)
    rows = Data(
        _part("data", data, weights, dtype),
        None if validation is None else _part("validation", validation, None, dtype),
    )

    optimizer = _shared(optimizer, numbers, net, rows.train.x, params)
    metric_items = tuple((metrics or {}).items())
    program = _program(net, loss, optimizer, batch_size, gradient, reduction, bool(shuffle), penalty, metric_items)
    start = functools.partial(program.init, key, rows, numbers, params, state)
    _check_joints(program, start, rows, net, loss, numbers)
    bar = _bar(epochs) if progress else None
    train_state, history = _segments(program, start(), rows, epochs, batch_size, bar)
    _warn_if_diverged(train_state, numbers)
    params, state = train_state.best if validation is not None else (train_state.params, train_state.state)
    return Run(params, state, history, train_state)


# ---- before anything compiles


def _dtype(params: Any) -> Any:
    floating = [a.dtype for a in jax.tree.leaves(params) if jnp.issubdtype(jnp.result_type(a), jnp.floating)]
    return floating[0] if floating else jnp.result_type(float)


def _part(name: str, value: Any, weights: Any, dtype: Any) -> Part:
    x, t = checks.pair(name, value)
    x, t = checks.inputs(f"{name}[0]", x, dtype), checks.targets(f"{name}[1]", t, dtype)
    checks.same_rows(name, x, t)
    return Part(x, t, None if weights is None else checks.weights("weights", weights, len(x), dtype))


def _check_joints(program: Any, start: Callable[[], Any], rows: Data, net: Any, loss: Any, numbers: Any) -> None:
    """Trace, without compiling, so that what does not fit raises now; and look at the targets' values."""
    try:
        made = jax.eval_shape(start)
        jax.eval_shape(program.run, made, rows, 0, 0)
    except (ValueError, TypeError) as error:
        error.__notes__ = []  # a remark on JAX's internals, of no use for a mistake in the arguments
        raise
    check = given_loss(loss, numbers).check
    if check is None:
        return
    forward = given("net", net, Layer, numbers).forward
    for part in rows:
        if part is not None:
            outputs = jax.eval_shape(lambda p, s, x: forward(p, s, x, None, False)[0], made.params, made.state, part.x)
            check(outputs, np.asarray(part.t))


# ---- compiled programs, remembered


class _Program(NamedTuple):
    init: Callable[..., TrainState]
    run: Callable[..., Any]


@functools.lru_cache(maxsize=128)
def _program(
    net: Any,
    loss: Any,
    optimizer: Any,
    batch_size: int | None,
    gradient: Any,
    reduction: str,
    shuffle: bool,
    penalty: Any,
    metrics: tuple[tuple[str, Any], ...],
) -> _Program:
    """One training run, compiled once for each shape of data. The state is donated, the data are not."""
    pure = trainer(
        net,
        loss,
        optimizer,
        batch_size=batch_size,
        gradient=gradient,
        reduction=reduction,
        shuffle=shuffle,
        penalty=penalty,
        metrics=dict(metrics),
    )
    return _Program(jax.jit(pure.init), jax.jit(pure.run, donate_argnums=0))


_optimizers: dict[str, Any] = {}


def _shared(optimizer: Any, numbers: dict[str, float], net: Any, x: Any, params: Any) -> Any:
    """The first optimizer that computes the very same thing, so that `optax.sgd(0.1)` made anew compiles nothing.

    An optax optimizer is a pair of new closures each time. What it computes is its traced program; two with the same
    text and the same constants are interchangeable.
    """
    if params is None:
        make = lambda: given("net", net, Layer, numbers).init(jax.random.key(0), x.shape[1:])[0]  # noqa: E731
        params = jax.eval_shape(make)
    made = functools.partial(given, "optimizer", optimizer, optax.GradientTransformation)

    def whole(settings: Any, grads: Any, params: Any) -> Any:
        with jax.numpy_dtype_promotion("standard"):
            return made(settings).update(grads, made(settings).init(params), params)

    settings = {name: jnp.zeros((), jnp.result_type(float)) for name in numbers}
    traced, made_of = jax.make_jaxpr(whole, return_shape=True)(settings, params, params)
    text = f"{traced} {jax.tree.structure(made_of)}"  # the types in the state too: they are part of what it is
    if " at 0x" in text:  # a function printed by its address: not a description of what it computes
        return optimizer
    digest = hashlib.sha256(f"{text} {jax.tree.structure(params)}".encode())
    for constant in traced.consts:
        digest.update(np.asarray(constant).tobytes())
    if len(_optimizers) > 1024:
        _optimizers.clear()
    return _optimizers.setdefault(digest.hexdigest(), optimizer)


# ---- compiled segments, and what the host does between them


def _segments(
    program: _Program, state: TrainState, rows: Data, epochs: int, batch_size: int | None, bar: Any
) -> tuple[TrainState, History]:
    """Run to the end in segments of about half a second, part of an epoch where an epoch is longer."""
    size, batches = sizes(len(rows.train.x), batch_size)
    weights = sum(a.size for a in jax.tree.leaves(state.params))
    seconds_a_step = 1e-5 + 6 * weights * size / 2e9  # a guess for the first segment, measured from then on
    steps = max(1, int(0.1 * SEGMENT_SECONDS / seconds_a_step))
    state, history = program.run(state, rows, 0, 0)  # compiles, and runs nothing
    done, step, pieces = 0, 0, [_taken(history, 0)]
    while done < epochs and bool(state.active):
        begun = time.perf_counter()
        room = min(epochs - done, LONGEST_HISTORY)
        state, history = program.run(state, rows, room, min(steps, room * batches))
        ended = int(state.epoch)
        elapsed = time.perf_counter() - begun
        now = int(state.step)
        pieces.append(_taken(history, ended - done))
        taken = max(1, (ended - done) * batches + now - step)
        steps = max(1, int(SEGMENT_SECONDS * taken / elapsed))
        if bar is not None:
            _show(bar, pieces[-1], ended - done)
        done, step = ended, now
    if bar is not None:
        bar.close()
    return state, jax.tree.map(lambda *parts: np.concatenate(parts), *pieces)


def _taken(history: History, epochs: int) -> History:
    return jax.tree.map(lambda h: np.asarray(h)[:epochs], history)


def _bar(epochs: int) -> Any:
    """A progress bar, where somebody can see it."""
    if not sys.stderr.isatty():
        return None
    try:
        from tqdm import tqdm
    except ImportError:
        return None
    return tqdm(total=epochs, unit="epoch")


def _show(bar: Any, piece: History, epochs: int) -> None:
    bar.update(epochs)
    if len(piece.loss):
        shown = {"loss": f"{piece.loss[-1]:.4g}"}
        if piece.validation_loss is not None:
            shown["validation"] = f"{piece.validation_loss[-1]:.4g}"
        bar.set_postfix(shown)


def _warn_if_diverged(state: TrainState, numbers: dict[str, float]) -> None:
    epoch, step = np.asarray(state.diverged).tolist()
    if epoch >= 0:
        shown = {name: value for name, value in numbers.items() if name not in OWN_SETTINGS}
        warnings.warn(
            f"the cost or a parameter became nan or inf in epoch {epoch}, step {step} (both from 0), settings {shown}; "
            "the last finite parameters are returned. Do lower the learning rate, or clip the gradient.",
            TrainingDiverged,
            stacklevel=3,
        )
