"""`fit`: the host's loop around the fused one. It checks what it is given, then runs compiled segments, and between
them does what only a host can: progress, checkpoints, Ctrl-C, warnings. There is no callback inside the program."""

from __future__ import annotations  # `help` then shows types by their names

import functools
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from typing import Any

import jax
import optax
from jax.sharding import Mesh

from fnn import arguments
from fnn.arguments.leaves import example_shape
from fnn.compilation.programs import Program, precompile
from fnn.data import checks
from fnn.data.arrays import owned_array
from fnn.data.loading import borrowed_array, load_arrays, load_start, load_stream_head, own_rows
from fnn.data.shares import Shares
from fnn.data.streams import DataLike, Stream, as_stream, is_stream, open_stream
from fnn.data.warnings import warn
from fnn.devices.peers import Peers, is_first, peers_of, together
from fnn.devices.placement import put_start
from fnn.devices.threads import Interrupted, never
from fnn.fitting import divergence, joint, resume
from fnn.fitting.interrupts import Signals, catch_signals, insist_on_ctrl_c
from fnn.fitting.output_kinds import warn_if_output_mismatch, warn_if_undefined
from fnn.fitting.progress import OnSegment, check_on_segment, check_progress, progress_bar
from fnn.fitting.segments import concatenate, segments, without_debug_nans
from fnn.fitting.setup import check_matrices, trace_run
from fnn.fitting.stream_segments import stream_segments
from fnn.gradients.cost import GradientFunction, autodiff
from fnn.kernels.effort import EFFORTS, choose_effort
from fnn.penalties.moves import restless_text
from fnn.runs import History, Run, TrainingDiverged, TrainState
from fnn.training.batches import batch_sizes, padded_rows
from fnn.training.config import (
    RESERVED_SETTINGS,
    TrainerConfig,
    check_settings_dict,
    loop_settings,
    missing_targets,
    refuse_row_metrics,
    resolve,
    resolve_loss,
    trainer_config,
)
from fnn.training.layout import PlaceRule, make_layout
from fnn.training.state import Start, chosen_params
from fnn.types import (
    ArrayLike,
    Arrays,
    Columns,
    Data,
    KeyLike,
    Layer,
    LossLike,
    Metric,
    OfSettings,
    Params,
    PathLike,
    Penalty,
    Shape,
    State,
)


@insist_on_ctrl_c
@arguments.explain_call
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
    validation: float | Sequence[Arrays] | None = None,
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
    mesh: Mesh | None = None,
    place: PlaceRule | None = None,
    checkpoint: PathLike | None = None,
    checkpoint_seconds: float = 1.0,
    progress: bool | str = True,
    on_segment: OnSegment | None = None,
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
        mode: whether the smallest of it ("min") or the largest ("max") is best; the loss is "min" by itself, those of
            `fnn.metrics` know theirs; for a function say so.
        weights: one a row of `data`, at least 0; weight k counts as k copies of the row in the cost and in all means.
            A layer that mixes rows (`batch_norm`) has each row once in its statistics, whatever it weighs.
        metrics: name -> function `(outputs, targets) -> (batch,)`, such as `fnn.accuracy`, or one of `fnn.metrics`
            that is one number, such as `fnn.metrics.f1()`; a stream has none that needs all rows at once.
        gradient: `fnn.autodiff`, or `fnn.backprop` to train by the hand-derived rules alone.
        reduction: "mean" over a batch's rows, or "sum".
        shuffle: a new order of the rows every epoch (with batches smaller than the data).
        patience: stop after so many epochs without a better value of the monitor; None never.
        min_delta: by how much a value must be better to count, at least 0.
        params, state: start from these instead of fresh ones; they are copied.
        on_nan: "warn", or "raise" the same as an exception, where a cost or a parameter becomes nan or inf.
        compile_effort: "low", "medium" or "high": how hard XLA works on the program. "low" compiles in a quarter of the
            time and runs several times slower; "medium" in two thirds of the time and runs up to twice slower.
            "auto" takes what ends soonest, by `epochs` and the sizes of network and data; "high" with a `checkpoint`,
            and for a stream. The last bits of a run may differ from effort to effort. On a CPU only.
        mesh: devices to train on, `jax.make_mesh((8,), ("data",))`: each batch is split over the mesh's first axis,
            whatever its size, and parameters and data are on every device. `batch_size` stays that of the whole batch.
            The run is that of one device, to rounding. The devices may be those of several processes, each of which
            calls `fit` with the same arguments; see docs/devices.md.
        place: `(path, array) -> PartitionSpec`, with `mesh`: how parameters and optimizer state are split too, by
            paths such as "params/0/w" and "optimizer/0/mu/0/w". `fnn.fully_sharded(mesh)` is such a rule.
        checkpoint: a folder, made if it is not there, for one process at a time. The run is kept in it while it goes
            on; the same call again goes on where that was, to the same bits (on the same machine and versions).
            More epochs than before are allowed; a finished run comes back at once; any other run is refused, with
            a list of what differs. Of a stream the first buffer and the epoch under way are read again, and it is
            refused where it gives other rows; one that draws its order without the epoch's number cannot give them
            again, which is said. Needs the extra `files`.
        checkpoint_seconds: write not more often than this, nor for more than a twentieth of the time; and at the end.
        progress: show a bar on a terminal or in a notebook (with the extra `progress` installed); "log" writes a line
            to the logger "fnn" every ten seconds, at level INFO.
        on_segment: a function, called with a `Progress` after each segment of about half a second, outside of the
            compiled program: to log, to draw. If it returns True the run ends there, as one that is finished early.

    Returns:
        `Run(params, state, history, train_state, in_shape, validation_rows, columns)`.
        `params` are the best by validation (`run.best_epoch` is when), without validation the last finite ones;
        `train_state.params` are the last. Where the data are frames, `columns` has the names of their columns, and
        frames with others, or in another order, are refused from then on.
        `history.loss` and the others are NumPy arrays, one value per epoch, counted as the rows were trained on.

    Raises:
        ValueError, TypeError: the data, the targets or an argument are not usable, or the checkpoint is of another
            run; before anything compiles.
        BlockingIOError: another process or thread trains in the checkpoint's folder; says which process.
        DamagedFile: all checkpoints in the folder are damaged.
        TrainingDiverged: with `on_nan="raise"`; its `run` is what would have been returned.
        KeyboardInterrupt: at Ctrl-C, once the segment under way (half a second) is finished and written. Its `run` is
            the run so far, None if nothing has been trained. At SIGTERM the process ends then, after a line on stderr.
            A handler of your own is called instead. In the main thread only.

    Warns:
        TrainingDiverged: a cost or a parameter became nan or inf; says where. The finite parameters are returned.
        TrainingInterrupted: your own handler of Ctrl-C or SIGTERM returned: so does the run so far.
        UserWarning: float64 data lose digits; probabilities and logits are mixed up; a checkpoint could not be
            written, or is damaged and the one before it was used, or is of another version of JAX, device or mesh;
            a stream that goes on shuffles by itself; a part of the run could not be compared with the checkpoint's.

    >>> import fnn, numpy as np, optax
    >>> x = np.linspace(-1, 1, 64, dtype="float32")[:, None]
    >>> net = fnn.serial(fnn.dense(16), fnn.tanh, fnn.dense(1))
    >>> run = fnn.fit(net, fnn.losses.squared_error, optax.adam(0.02), (x, np.sin(3 * x)), epochs=400, batch_size=16)
    >>> print(run.history.loss.shape, bool(run.history.loss[-1] < 0.01))
    (400,) True
    """
    epochs, on_nan = arguments.epochs(epochs), arguments.one_of("on_nan", on_nan, ("warn", "raise"))
    compile_effort = arguments.one_of("compile_effort", compile_effort, ("auto", *EFFORTS))
    seconds = arguments.number("checkpoint_seconds", checkpoint_seconds, 0)
    numbers = check_settings_dict(settings, RESERVED_SETTINGS) | loop_settings(patience, min_delta)
    folder = None if checkpoint is None else checks.folder("checkpoint", checkpoint)
    config = trainer_config(
        net, loss, optimizer, penalty=penalty, gradient=gradient, metrics=metrics, batch_size=batch_size,
        shuffle=shuffle, reduction=reduction, monitor=monitor, mode=mode, patience=patience,
        validates=validation is not None, layout=make_layout(mesh, place),
    )  # fmt: skip
    key, peers = arguments.key(key), peers_of(config.layout, warn, catch_signals)
    listeners = check_progress(progress), check_on_segment(on_segment)
    with together(peers), joint.open_by_first(peers, folder):
        params, state = load_start(params, state)
        missing = missing_targets(loss, numbers)
        stream = _stream(data, config) if is_stream(data) else None
        arrays, held, columns = _load(config, stream, data, validation, weights, key, params, reduction, missing)
        request = config, Start(key, arrays, numbers, params, state)
        config, start, program = trace_run(*request, settings or {})  # first of what traces, for its plain errors
        check_matrices(config, start.settings, data, validation)
        effort = _choose_effort(compile_effort, config, start, program, epochs, folder)
        shares, asked = joint.shares_of(peers, config, stream), (folder, epochs, seconds, stream)
        checkpoints = joint.open_checkpoints(peers, config, request, program, effort, *asked)
        start = put_start(config.layout, joint.same_head(peers, shares, start))
        with catch_signals() as signals, without_debug_nans():
            to_end = config, start, program, checkpoints, epochs, listeners, effort, stream, shares, peers, signals
            end, history, rows = _run_to_end(*to_end)
            run = _best_run(end, history, example_shape(arrays.train.x), held, columns)
            run = run and joint.with_own_params(peers, config.layout, run)
            signals.keep(run, functools.partial(_interrupt_text, end, epochs, checkpoints, peers))
        signals.warn(_is_done(end, epochs))
        assert end is not None and run is not None  # else the line above raised an error
        _warn_if_restless(config, arrays, end)
        warn_if_undefined(config.monitor, history)
        _report_divergence(peers, config, None if stream else (rows, arrays), settings or {}, run, on_nan)
        return run


# ---- the run, and what the host does between its segments


def _choose_effort(
    asked: str, config: TrainerConfig, start: Start, program: Program, epochs: int, folder: str | None
) -> str:
    if asked != "auto":
        return asked
    if folder is not None:  # it may go on to more epochs, to the bits of a run that had them from the beginning
        return "high"
    _, batches = batch_sizes(padded_rows(start.data.train), config.batch_size)
    return choose_effort(program.work, epochs, epochs * batches)


def _run_to_end(
    config: TrainerConfig,
    start: Start,
    program: Program,
    checkpoints: resume.Checkpoints,
    epochs: int,
    listeners: tuple[bool | str, OnSegment | None],
    effort: str,
    stream: Stream | None,
    shares: Shares | None,
    peers: Peers | None,
    signals: Signals,
) -> tuple[TrainState | None, History, Data]:
    """The end of the run, its history, and its rows on the device; no state where it was to stop while it compiled."""
    must_stop = signals.heard if peers is None else never  # several processes stop together, after a segment
    state, histories = checkpoints.state, [checkpoints.history]
    try:
        goes_on = epochs > 0 and not _is_done(state, epochs)
        # what compiles longest first: the other is lowered in Python meanwhile
        wanted = ([effort] if goes_on and stream is None else []) + (["init"] if state is None else [])
        precompile(program, wanted, tuple(start), start.data, must_stop)
    except Interrupted:
        return state, histories[0], start.data
    start = start._replace(data=own_rows(start.data))  # now: the compiler's memory is free again
    if peers is not None:
        peers.wait_for_all("compiled")  # those that compile longer are waited for here, and not in a step
    if state is None:
        state = program.init(*start)
        net, loss = resolve("net", config.net, Layer, start.settings), resolve_loss(config.loss, start.settings)
        warn_if_output_mismatch(net, loss, state, start.data.train.x)
    if stream is None:
        following = segments(program.run(effort), state, start.data, epochs, config.batch_size, checkpoints.pace)
    else:
        how = start.data.validation, checkpoints.pace, None, checkpoints.record, must_stop, shares
        following = stream_segments(config, stream, state, epochs, *how, joint.same_rows(peers, shares))
    progress, on_segment = listeners if is_first(peers) else (False, None)
    with progress_bar(progress, epochs, int(state.epoch)) as show, closing(following), suppress(Interrupted):
        try:
            for segment in following:
                state = segment.state
                histories.append(segment.history)
                show(segment)
                if joint.end_segment(peers, config, checkpoints, segment, histories, on_segment, epochs, signals):
                    break
        except Exception as error:
            if peers is not None:
                peers.give_up(error)
            elif not any(leaf.is_deleted() for leaf in jax.tree.leaves(state)):  # what was done before it is not lost
                checkpoints.write(state, histories, last=True)
            raise
    if peers is not None and config.layout is not None:
        return *joint.end_run(peers, config.layout, checkpoints, state, histories), start.data
    checkpoints.write(state, histories, last=True)
    return state, concatenate(histories), start.data


def _is_done(end: TrainState | None, epochs: int) -> bool:
    """Whether a run has all its epochs, or has stopped by itself."""
    return end is not None and (int(end.epoch) >= epochs or not bool(end.active))


def _best_run(
    end: TrainState | None, history: History, in_shape: Shape, held: Any, columns: Columns | None
) -> Run | None:
    """What comes back of a run: its best parameters. Nothing comes back of one that has not begun."""
    if end is None:
        return None
    params, state = chosen_params(end, int(end.best_epoch))
    return Run(params, state, history, end, in_shape, held, columns)


def _load(config: TrainerConfig, stream: Stream | None, data: Any, *arguments: Any) -> Any:
    """The rows, checked: all, or those that a stream begins with; which were held out; the names of columns.

    On one device they are copied once all is compiled: not both at a time need memory.
    """
    if stream is not None:
        return load_stream_head(stream, *arguments)
    whole = data, *arguments, borrowed_array if config.layout is None else owned_array
    return load_arrays(*whole)


def _stream(data: Any, config: TrainerConfig) -> Stream:
    """What a user has as a stream, to be opened once: its first row is looked at before it is trained on."""
    refuse_row_metrics("data", dict(config.metrics))
    stream = data if isinstance(data, Stream) else open_stream(as_stream("data", data))
    if config.batch_size is None:
        raise ValueError(
            "batch_size: expected rows per step for a stream, which is never one batch, got None. Write batch_size=32."
        )
    return stream


def _interrupt_text(
    end: TrainState | None, epochs: int, checkpoints: resume.Checkpoints, peers: Peers | None, name: str
) -> str:
    """What a signal of this name ended, and what of it is kept."""
    text = f"training: expected {epochs} epochs, got {name}"
    if end is None:
        return f"{text} while it compiled; nothing has been trained. Call fit again to train."
    done, folder = _is_done(end, epochs), checkpoints.folder
    at = "when all was done" if done else f"in epoch {int(end.epoch)}, step {int(end.step)} (both counted from 0)"
    what = "the whole run" if done else "the run so far"
    if not is_first(peers):
        return f"{text} {at}, as did all processes; process 0 says where {what} is."
    if checkpoints.holds(end):
        return f"{text} {at}; {what} is kept in {folder}. Call fit again to {'load the run' if done else 'resume'}."
    if folder is None:
        return f"{text} {at}; {what} is in no file. Pass checkpoint=folder to keep runs."
    return f"{text} {at}; {what} could not be written to {folder}. Free space, or pass another folder."


def _warn_if_restless(config: TrainerConfig, data: Data, end: TrainState) -> None:
    """Say that batches keep weights from becoming 0."""
    size = config.batch_size or padded_rows(data.train)
    text = restless_text(end.optimizer, size) if size < padded_rows(data.train) else None
    if text is not None:
        warn(text)


def _report_divergence(
    peers: Peers | None, config: TrainerConfig, both: tuple[Data, Data] | None, settings: Any, run: Run, on_nan: str
) -> None:
    """Say where a run diverged; `both`: its rows as they lie on the devices, and as they are in this process."""
    rows = None if both is None else both[0]
    if peers is not None and config.layout is not None:  # what came back is of this process, unless it is split
        rows = None if both is None or config.layout.place is not None else both[1]
        config = config._replace(layout=None)
    text = divergence.describe(config, run.train_state, rows, settings, run.validation_rows)
    if text is None:
        return
    if on_nan == "raise":
        error = TrainingDiverged(text)
        error.run = run
        raise error
    warn(text, TrainingDiverged)
