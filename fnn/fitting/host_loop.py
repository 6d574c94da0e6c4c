"""`fit`: the host's loop around the fused one. It checks what it is given, then runs compiled segments, and between
them does what only a host can: progress, checkpoints, Ctrl-C, warnings. There is no callback inside the program."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import Any

import jax
import numpy as np
import optax

from fnn import arguments
from fnn.compilation.programs import Program, precompile
from fnn.data import checks
from fnn.data.loading import load_arrays, load_start, load_stream_head
from fnn.data.streams import DataLike, Stream, as_stream, is_stream, open_stream
from fnn.data.warnings import warn
from fnn.fitting import divergence, resume
from fnn.fitting.interrupts import catch_signals
from fnn.fitting.output_kinds import warn_if_output_mismatch
from fnn.fitting.progress import progress_bar
from fnn.fitting.segments import concatenate, segments, without_debug_nans
from fnn.fitting.setup import trace_run
from fnn.fitting.stream_segments import stream_segments
from fnn.gradients.cost import GradientFunction, autodiff
from fnn.kernels.effort import EFFORTS, choose_effort
from fnn.runs import History, Run, TrainingDiverged, TrainingInterrupted, TrainState
from fnn.training.batches import batch_sizes, padded_rows
from fnn.training.config import (
    RESERVED_SETTINGS,
    TrainerConfig,
    check_settings_dict,
    loop_settings,
    resolve,
    resolve_loss,
    trainer_config,
)
from fnn.training.state import Start
from fnn.types import ArrayLike, KeyLike, Layer, LossLike, Metric, OfSettings, Params, PathLike, Penalty, State


def fit(
    net: OfSettings[Layer],
    loss: OfSettings[LossLike],
    optimizer: OfSettings[optax.GradientTransformation],
    data: DataLike,
    *,
    epochs: int,
    key: KeyLike = 0,
    batch_size: int | None = None,
    settings: dict[str, float] | None = None,
    validation: float | Sequence[ArrayLike] | None = None,
    monitor: str = "loss",
    mode: str | None = None,
    patience: int | None = None,
    min_delta: float = 0.0,
    weights: ArrayLike | None = None,
    metrics: Mapping[str, Metric] | None = None,
    penalty: OfSettings[Penalty] | None = None,
    gradient: Callable[..., GradientFunction] = autodiff,
    reduction: str = "mean",
    shuffle: bool = True,
    params: Params = None,
    state: State = None,
    on_nan: str = "warn",
    compile_effort: str = "auto",
    checkpoint: PathLike | None = None,
    checkpoint_seconds: float = 1.0,
    progress: bool = True,
) -> Run:
    """Train a network.

    Args:
        net, loss, optimizer, penalty: as for `fnn.trainer`; each may be a function of the settings.
        data: `(x, t)`, inputs and targets, as lists, NumPy, pandas or JAX arrays with as many rows each; or, larger
            than memory, a stream of chunks `(x, t)` or `(x, t, weight)` anew each epoch: a generator function, a data
            loader, `fnn.memory_mapped("x.npy", "t.npy")`. Rows of a stream are shuffled within buffers of 64 MB. It is
            opened once per epoch; a function is given the epoch's number if it takes an argument.
        epochs: how often every row is used.
        key: an integer seed, or a `jax.random.key`; equal keys give equal runs.
        batch_size: rows per step, the last batch may be smaller; None is the full batch, rows in the given order.
        settings: named numbers that may differ from call to call without compiling again.
        validation: `(x, t)` or `(x, t, weights)` to evaluate on; or a share of `data` to hold out, such as 0.2, drawn
            by `key` (classes in the same proportion: class numbers, one-hot rows, a column of 0 and 1; which rows is in
            `run.validation_rows`). The parameters that are best on it are returned.
        monitor: what on the validation rows tells the best: "loss", or the name of one of the metrics.
        mode: whether the smallest of it ("min") or the largest ("max") is best; the loss is "min" by itself, for a
            metric say so.
        weights: one a row of `data`, at least 0; weight k counts as k copies of the row in the cost and in all means.
            A layer that mixes rows (`batch_norm`) has each row once in its statistics, whatever it weighs.
        metrics: name -> function `(outputs, targets) -> (batch,)`, such as `fnn.accuracy`.
        gradient: `fnn.autodiff`, or `fnn.backprop` to train by the hand-derived rules alone.
        reduction: "mean" over a batch's rows, or "sum".
        shuffle: a new order of the rows every epoch (with batches smaller than the data).
        patience: stop after so many epochs without a better value of the monitor; None never.
        min_delta: by how much a value must be better to count, at least 0.
        params, state: start from these instead of fresh ones; they are copied.
        on_nan: "warn", or "raise" the same as an exception, where a cost or a parameter becomes nan or inf.
        compile_effort: "low", "medium" or "high": how hard XLA works on the program. "low" compiles in a quarter of the
            time and runs several times slower; "medium" compiles in half the time and runs up to twice slower.
            "auto" takes what ends soonest, by `epochs` and the sizes of network and data. The last bits of a run may
            differ from effort to effort. On a CPU only; a stream has "high".
        checkpoint: a folder, made if it is not there. The run is kept in it while it goes on; the same call again
            goes on where that was, to the same bits of parameters and history (on the same machine and versions).
            More epochs than before are allowed; a finished run comes back at once; any other run is refused, with
            a list of what differs. Of a stream the first buffer and the epoch under way are read again, and it is
            refused where it gives other rows; one that draws its order without the epoch's number cannot give them
            again, which is said. Needs the extra `files`.
        checkpoint_seconds: write not more often than this, nor for more than a twentieth of the time; and at the end.
        progress: show a bar on a terminal (with the extra `progress` installed).

    Returns:
        `Run(params, state, history, train_state, in_shape, validation_rows, columns)`.
        `params` are the best by validation (`run.best_epoch` is when), without validation the last finite ones;
        `train_state.params` are the last. Where the data are frames, `columns` has the names of their columns, and
        frames with others, or in another order, are refused from then on.
        `history.loss` and the others are NumPy arrays, one value per epoch, counted as the rows were trained on.

    Raises:
        ValueError, TypeError: the data, the targets or an argument are not usable, or the checkpoint is of another
            run; before anything compiles.
        DamagedFile: all checkpoints in the folder are damaged.
        TrainingDiverged: with `on_nan="raise"`; its `run` is what would have been returned.
        KeyboardInterrupt: at a second Ctrl-C.

    Warns:
        TrainingDiverged: a cost or a parameter became nan or inf; says where. The finite parameters are returned.
        TrainingInterrupted: after Ctrl-C or SIGTERM the segment under way (half a second) is finished and written,
            and what there is comes back. In the main thread only.
        UserWarning: float64 data lose digits; probabilities and logits are mixed up; a checkpoint could not be
            written, or is damaged and the one before it was used, or is of another version of JAX or another device;
            a stream that goes on shuffles by itself; a part of the run could not be compared with the checkpoint's.

    >>> import fnn, numpy as np, optax
    >>> x = np.linspace(-1, 1, 64, dtype="float32")[:, None]
    >>> net = fnn.serial(fnn.dense(16), fnn.tanh, fnn.dense(1))
    >>> run = fnn.fit(net, fnn.losses.squared_error, optax.adam(0.02), (x, np.sin(3 * x)), epochs=400, batch_size=16)
    >>> print(run.history.loss.shape, bool(run.history.loss[-1] < 0.01))
    (400,) True
    """
    epochs = arguments.epochs(epochs)
    on_nan = arguments.one_of("on_nan", on_nan, ("warn", "raise"))
    compile_effort = arguments.one_of("compile_effort", compile_effort, ("auto", *EFFORTS))
    seconds = arguments.number("checkpoint_seconds", checkpoint_seconds, 0)
    numbers = check_settings_dict(settings, RESERVED_SETTINGS) | loop_settings(patience, min_delta)
    folder = None if checkpoint is None else checks.folder("checkpoint", checkpoint)
    config = trainer_config(
        net,
        loss,
        optimizer,
        penalty=penalty,
        gradient=gradient,
        metrics=metrics,
        batch_size=batch_size,
        shuffle=shuffle,
        reduction=reduction,
        monitor=monitor,
        mode=mode,
        patience=patience,
        validates=validation is not None,
    )
    key, progress = arguments.key(key), arguments.flag("progress", progress)
    params, state = load_start(params, state)
    stream = _stream(data, config.batch_size) if is_stream(data) else None
    load: Callable[..., Any] = load_arrays if stream is None else load_stream_head
    arrays, held, columns = load(data if stream is None else stream, validation, weights, key, params, reduction)
    request = config, Start(key, arrays, numbers, params, state)
    config, start, program = trace_run(*request)  # before all else that traces: its errors are the plain ones
    about = {} if folder is None else resume.describe_run(*request, stream)
    no_epochs = jax.tree.map(lambda a: np.zeros(0, a.dtype), program.history)
    checkpoints = resume.Checkpoints(folder, about, program.state, no_epochs, epochs, seconds, stream)
    with without_debug_nans():
        effort = _choose_effort(compile_effort, config, start, program, epochs)
        end, history, names = _run_to_end(config, start, program, checkpoints, epochs, progress, effort, stream)
    params, state = end.best if int(end.best_epoch) >= 0 else (end.params, end.state)
    run = Run(params, state, history, end, arrays.train.x.shape[1:], held, columns)
    if names:
        _warn_of_interrupt(names[0], end, epochs, folder)
    located = None if stream is not None else arrays
    _report_divergence(divergence.describe(config, end, located, settings or {}, held), run, on_nan)
    return run


# ---- the run, and what the host does between its segments


def _choose_effort(asked: str, config: TrainerConfig, start: Start, program: Program, epochs: int) -> str:
    if asked != "auto":
        return asked
    _, batches = batch_sizes(padded_rows(start.data.train), config.batch_size)
    return choose_effort(program.work, epochs, epochs * batches)


def _run_to_end(
    config: TrainerConfig,
    start: Start,
    program: Program,
    checkpoints: resume.Checkpoints,
    epochs: int,
    progress: bool,
    effort: str,
    stream: Stream | None,
) -> tuple[TrainState, History, list[str]]:
    """The end of the run, its history, and the signals that ended it early, if any did."""
    state, histories = checkpoints.state, [checkpoints.history]
    if state is None:
        if stream is None and epochs > 0:
            precompile(program, effort, tuple(start), start.data)
        state = program.init(*start)
        net, loss = resolve("net", config.net, Layer, start.settings), resolve_loss(config.loss, start.settings)
        warn_if_output_mismatch(net, loss, state, start.data.train.x)
    if stream is None:
        following = segments(program.run(effort), state, start.data, epochs, config.batch_size, checkpoints.pace)
    else:
        held, pace, record = start.data.validation, checkpoints.pace, checkpoints.record
        following = stream_segments(config, stream, state, epochs, held, pace, reading=record)
    with catch_signals() as names, progress_bar(progress, epochs, int(state.epoch)) as show, closing(following):
        try:
            for segment in following:
                state = segment.state
                histories.append(segment.history)
                show(segment)
                checkpoints.write(state, histories)
                if names:
                    break
        except Exception:
            if not any(leaf.is_deleted() for leaf in jax.tree.leaves(state)):  # what was done before it is not lost
                checkpoints.write(state, histories, last=True)
            raise
        checkpoints.write(state, histories, last=True)
    return state, concatenate(histories), names


def _stream(data: Any, batch_size: int | None) -> Stream:
    """What a user has as a stream, to be opened once: its first row is looked at before it is trained on."""
    stream = data if isinstance(data, Stream) else open_stream(as_stream("data", data))
    if batch_size is None:
        raise ValueError(
            "batch_size: expected rows per step for a stream, which is never one batch, got None. Write batch_size=32."
        )
    return stream


def _warn_of_interrupt(name: str, state: TrainState, epochs: int, checkpoint: Any) -> None:
    if int(state.epoch) >= epochs or not bool(state.active):
        return  # it came when all was done
    hint = "Pass checkpoint=folder to be able to go on" if checkpoint is None else "Call fit again to go on from there"
    kept = "" if checkpoint is None else f", and is kept in {checkpoint}"
    warn(
        f"training: expected {epochs} epochs, got {name} in epoch {int(state.epoch)}, step {int(state.step)} (both "
        f"counted from 0); what there is comes back{kept}. {hint}.",
        TrainingInterrupted,
    )


def _report_divergence(text: str | None, run: Run, on_nan: str) -> None:
    if text is None:
        return
    if on_nan == "raise":
        error = TrainingDiverged(text)
        error.run = run
        raise error
    warn(text, TrainingDiverged)
