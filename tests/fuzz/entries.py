"""The ways of `fnn` to train, each as a function of a program, beside what the plain loop makes of the same.

An entry gives members, one or more; of each what the plain loop is asked (`Member`), and what `fnn` came to (`Found`).
"""

import tempfile
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import fnn
from tests.fuzz.plain import OPTIONS
from tests.fuzz.programs import Program, Table


class Member(NamedTuple):
    """A run that the plain loop can do alone."""

    key: int
    settings: dict[str, float]
    train: Table
    validation: Table | None
    judged: Any = None  # inputs of which an entry gives the outputs


class Found(NamedTuple):
    """What `fnn` came to; None: this entry does not say."""

    last: Any = None  # (params, state)
    best: Any = None
    history: Any = None  # a History, or a dict of its columns
    outputs: Any = None


class Entry(NamedTuple):
    """`members(program)`, and `train(program, members)`: one `Found` each."""

    members: Callable[[Program], list[Member]]
    train: Callable[[Program, list[Member]], list[Found]]
    stream: bool = False


def _settings(p: Program) -> dict[str, float]:
    return {"lr": 0.05} if p.swept else {}


def _alone(p: Program) -> list[Member]:
    return [Member(p.key, _settings(p), p.train, p.validation)]


def _next_keys(p: Program) -> list[Member]:
    return [Member(p.key + i, _settings(p), p.train, p.validation) for i in range(2)]


def _swept(p: Program) -> list[Member]:
    if not p.swept:
        return _next_keys(p)
    return [Member(p.key, {"lr": lr}, p.train, p.validation) for lr in (0.05, 0.02)]


def _folds(p: Program) -> list[Member]:
    return [Member(p.key, {}, p.train.taken(a), p.train.taken(b), p.train.x[b]) for a, b in _fold_rows(p)]


def _fold_rows(p: Program) -> list[tuple[np.ndarray, np.ndarray]]:
    """Two folds, of which the first trains on fewer rows; every row that weighs something is needed on both sides."""
    rows = np.arange(len(p.train.x))
    weight = p.train.weight
    heavy = rows if weight is None else rows[weight > 0]
    test = rows % 3 == 0
    if len(np.unique(test[heavy])) < 2 or len(heavy) < 2:
        test = rows == heavy[0]
        return [(rows[~test], rows[test])] if len(heavy) > 1 else [(rows[test], rows[test])]
    return [(rows[test], rows[~test]), (rows[~test], rows[test])]


# ---- by `fit` and what is like it


def _given(p: Program) -> dict[str, Any]:
    """The arguments that all studies and `fit` share."""
    return {
        "batch_size": p.batch_size,
        "shuffle": p.shuffle,
        "gradient": p.gradient,
        "reduction": p.reduction,
        "penalty": p.penalty,
        "metrics": p.metrics,
        "monitor": p.monitor,
        "mode": "min" if p.monitor != "loss" else None,
        "patience": p.patience,
        "epochs": p.epochs,
        "progress": False,
    }


def _optimizer(p: Program) -> Any:
    return p.optimizer if p.swept else p.optimizer({})


def _rows(table: Table | None) -> Any:
    if table is None:
        return None
    return (table.x, table.t) if table.weight is None else tuple(table)


def _of_run(run: fnn.Run) -> Found:
    end = run.train_state
    return Found((end.params, end.state), (run.params, run.state), run.history)


def _fit(p: Program, members: list[Member], **more: Any) -> list[Found]:
    (m,) = members
    arguments = {"validation": _rows(m.validation), "weights": m.train.weight, "settings": m.settings, **_given(p)}
    arguments |= {"key": m.key, **more}
    return [_of_run(fnn.fit(p.net, p.loss, _optimizer(p), (m.train.x, m.train.t), **arguments))]


def _resume(p: Program, members: list[Member]) -> list[Found]:
    with tempfile.TemporaryDirectory() as folder:
        _fit(p, members, checkpoint=folder, epochs=max(1, p.epochs - 1))
        return _fit(p, members, checkpoint=folder)


def _stream(p: Program, members: list[Member]) -> list[Found]:
    (m,) = members
    cuts = [len(m.train.x) // 3, len(m.train.x) // 2]

    def chunks(epoch: int) -> Any:
        for piece in np.split(np.arange(len(m.train.x)), cuts):
            if len(piece):
                yield _rows(m.train.taken(piece))

    arguments = {"validation": _rows(m.validation), "settings": m.settings, "key": m.key, **_given(p)}
    return [_of_run(fnn.fit(p.net, p.loss, _optimizer(p), chunks, **arguments))]


def _sweep(p: Program, members: list[Member]) -> list[Found]:
    over = {"lr": [m.settings["lr"] for m in members]} if p.swept else {"seed": [m.key for m in members]}
    data, m = (p.train.x, p.train.t), members[0]
    found = fnn.sweep(
        p.net, p.loss, _optimizer(p), data, over=over, key=p.key, keep="all",
        validation=_rows(m.validation), weights=m.train.weight, **_given(p),
    )  # fmt: skip
    return [Found(None, (run.params, run.state), run.history) for run in found.runs.values()]


def _ensemble(p: Program, members: list[Member]) -> list[Found]:
    data, m = (p.train.x, p.train.t), members[0]
    found = fnn.ensemble(
        p.net, p.loss, _optimizer(p), data, members=len(members), key=p.key,
        validation=_rows(m.validation), weights=m.train.weight, **_given(p),
    )  # fmt: skip
    each = [
        jax.tree.map(lambda a, i=i: a[i], (found.params, found.state, found.histories)) for i in range(len(members))
    ]
    return [Found(None, one[:2], one[2]) for one in each]


def _cross_validate(p: Program, members: list[Member]) -> list[Found]:
    found = fnn.cross_validate(
        p.net, p.loss, _optimizer(p), (p.train.x, p.train.t), folds=_fold_rows(p), refit=False, key=p.key,
        weights=p.train.weight, **{name: value for name, value in _given(p).items() if name != "patience"},
    )  # fmt: skip
    histories = [{name: v[0, i] for name, v in found.histories.items()} for i in range(len(members))]
    return [
        Found(history=history, outputs=found.predictions[rows[1]])
        for history, rows in zip(histories, _fold_rows(p), strict=True)
    ]


# ---- by `trainer`


def _trainer(p: Program) -> fnn.Trainer:
    arguments = _given(p)
    for name in ("patience", "epochs", "progress"):
        arguments.pop(name)
    return fnn.trainer(p.net, p.loss, _optimizer(p), **arguments)


def _data(m: Member) -> fnn.Data:
    train, validation = (None if table is None else fnn.Part(*table) for table in (m.train, m.validation))
    return jax.tree.map(jax.device_put, fnn.Data(train, validation))


def _numbers(p: Program, m: Member) -> dict[str, Any]:
    return m.settings | ({} if p.patience is None else {"patience": p.patience})


def _of_state(end: Any, history: fnn.History) -> Found:
    """Parameters, the best ones and the history, as `fit` gives them."""
    done = int(end.epoch)
    history = jax.tree.map(lambda a: np.asarray(a)[:done], history)
    last = fnn.optimizers.evaluation_params(end.optimizer, end.params), end.state
    best = end.best if int(end.best_epoch) >= 0 else last
    return Found((end.params, end.state), best, history)


def _begun(p: Program, m: Member, training: fnn.Trainer, data: Any) -> Any:
    """The first state; what draws it is compiled as plainly as XLA can."""
    return jax.jit(training.init, compiler_options=OPTIONS)(jax.random.key(m.key), data, _numbers(p, m))


def _jitted(p: Program, members: list[Member]) -> list[Found]:
    (m,), training = members, _trainer(p)
    data = _data(m)
    start = _begun(p, m, training, data)
    return [_of_state(*jax.jit(lambda state, data: training.run(state, data, p.epochs))(start, data))]


def _closed_over(p: Program, members: list[Member]) -> list[Found]:
    """Rows, key and settings are constants of the program."""
    (m,), training = members, _trainer(p)
    data = _data(m)
    start = _begun(p, m, training, data)
    return [_of_state(*jax.jit(lambda: training.run(start, data, p.epochs))())]


def _vmapped(p: Program, members: list[Member]) -> list[Found]:
    training, data = _trainer(p), _data(members[0])
    init = jax.jit(jax.vmap(lambda seed, s: training.init(jax.random.key(seed), data, s)), compiler_options=OPTIONS)
    settings = jax.tree.map(lambda *numbers: np.array(numbers, "float32"), *[_numbers(p, m) for m in members])
    starts = init(np.array([m.key for m in members]), settings)
    ends = jax.jit(jax.vmap(lambda state: training.run(state, data, p.epochs)))(starts)
    ends = jax.tree.map(lambda a: a if jnp.issubdtype(a.dtype, jax.dtypes.extended) else np.asarray(a), ends)
    return [_of_state(*jax.tree.map(lambda a, i=i: a[i], ends)) for i in range(len(members))]


def _nested(p: Program, members: list[Member]) -> list[Found]:
    """A run inside a function that is compiled for itself, inside another that goes on with it, or inside a loop."""
    (m,), training = members, _trainer(p)
    data = _data(m)
    start = _begun(p, m, training, data)

    @jax.jit
    def inner(state: Any, data: Any) -> Any:
        return training.run(state, data, p.epochs)

    def outer(state: Any, data: Any) -> Any:
        if p.seed % 3 == 0:
            several = jax.tree.map(lambda a: a[None], state)
            return jax.tree.map(lambda a: a[0], jax.lax.map(lambda state: inner(state, data), several))
        if p.seed % 3 == 1:
            return jax.lax.cond(data.train.x.sum() < 1e9, inner, inner, state, data)
        end, history = inner(state, data)
        return end._replace(params=jax.tree.map(lambda a: a + 0, end.params)), history

    return [_of_state(*jax.jit(outer)(start, data))]


def _pieces(p: Program, members: list[Member]) -> list[Found]:
    """So many steps at a time, the state handed on."""
    (m,), training = members, _trainer(p)
    data = _data(m)
    state = _begun(p, m, training, data)
    run = jax.jit(training.run, donate_argnums=0)
    rows: list[Any] = []
    while int(state.epoch) < p.epochs and bool(state.active):
        done = int(state.epoch)
        state, history = run(state, data, jnp.int32(p.epochs - done), jnp.int32(1 + p.seed % 3))
        rows.append(jax.tree.map(lambda a, n=int(state.epoch) - done: np.asarray(a)[:n], history))
    return [_of_state(state, jax.tree.map(lambda *a: np.concatenate(a), *rows))]


ENTRIES = {
    "fit": Entry(_alone, _fit),
    "trainer": Entry(_alone, _jitted),
    "closed over": Entry(_alone, _closed_over),
    "vmap": Entry(_swept, _vmapped),
    "nested": Entry(_alone, _nested),
    "pieces": Entry(_alone, _pieces),
    "sweep": Entry(_swept, _sweep),
    "cross_validate": Entry(_folds, _cross_validate),
    "ensemble": Entry(_next_keys, _ensemble),
    "stream": Entry(_alone, _stream, stream=True),
    "resume": Entry(_alone, _resume),
}
