"""A training run as a plain loop in Python: what every way of `fnn` to train must come to.

It takes the network's `forward`, the loss, `jax.grad`, optax' `update`, and what `fnn` documents of the order of the
rows and of the keys; nothing of the fused loop. One step is compiled, as plainly as XLA can.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree
from optax.contrib import ScheduleFreeState

import fnn
from fnn.kernels.random import permutation
from fnn.training.state import RUN
from tests.fuzz.programs import Program, Table

OPTIONS: dict[str, Any] = {"xla_backend_optimization_level": 0}
if jax.__version_info__ < (0, 11):
    OPTIONS["xla_cpu_use_fusion_emitters"] = False
CLOSE = 1e-5  # two validation values that are closer may be either way round


class Moment(NamedTuple):
    """A run after some epochs."""

    params: Any
    judged: Any  # the parameters to predict with
    state: Any
    best: Any  # (params to predict with, state), the best by validation; the last without
    history: dict[str, list[float]]
    ended: bool  # it would not go on
    sure: bool  # which is best does not depend on rounding


class Step(NamedTuple):
    """What one batch makes of a run."""

    params: Any
    state: Any
    optimizer: Any
    loss: Any
    weight: Any
    metrics: dict[str, Any]
    finite: Any


class Plain:
    """The loop of one program; `run` may be called for several members."""

    def __init__(self, program: Program):
        self.program = program
        self.init = jax.jit(self._init, compiler_options=OPTIONS)
        self.step = jax.jit(self._step, static_argnames=("whole",), compiler_options=OPTIONS)
        self.judged = jax.jit(self._judged, compiler_options=OPTIONS)
        self.said = jax.jit(self._said, compiler_options=OPTIONS)

    def _init(self, key: Any, settings: Any) -> Any:
        params, state, _ = self.program.net.init(key, self.program.train.x.shape[1:])
        return params, state, self.program.optimizer(settings).init(params)

    def _step(
        self, params: Any, state: Any, optimizer: Any, settings: Any, batch: Table, mask: Any, key: Any, whole: bool
    ) -> Step:
        p, (x, t, w) = self.program, batch

        def cost(params: Any) -> Any:
            y, new_state, _ = p.net.forward(params, state, x, key, True if whole else fnn.Rows(mask))
            total, count = _sum(p.loss(y, t), w), w.sum()
            scaled = total if p.reduction == "sum" else total / jnp.maximum(count, 1e-30)
            extra = 0.0 if p.penalty is None else p.penalty.value(params)
            return scaled + extra, (total, count, new_state, y)

        grads, (total, count, new_state, y) = jax.grad(cost, has_aux=True)(params)
        updates, optimizer = p.optimizer(settings).update(grads, optimizer, params)
        params = optax.apply_updates(params, updates)
        finite = jnp.isfinite(total)
        for leaf in jax.tree.leaves(params):
            finite &= jnp.isfinite(leaf).all()
        metrics = {name: _sum(metric(y, t), w) for name, metric in p.metrics.items()}
        return Step(params, new_state, optimizer, total, count, metrics, finite)

    def _said(self, params: Any, state: Any, x: Any) -> Any:
        return self.program.net.forward(params, state, x, None, False)[0]

    def _judged(self, params: Any, state: Any, rows: Table) -> dict[str, Any]:
        p = self.program
        y = self._said(params, state, rows.x)
        values = {"loss": p.loss(y, rows.t), **{name: metric(y, rows.t) for name, metric in p.metrics.items()}}
        sums = {name: _sum(value, rows.weight) for name, value in values.items()}
        return sums | {"weight": rows.weight.sum()}

    def run(
        self,
        key: Any,
        settings: Any,
        train: Table,
        validation: Table | None,
        stream: bool = False,
        shaken: np.random.Generator | None = None,
    ) -> list[Moment]:
        """The run after each epoch; until it ends by itself, by patience or by what is not finite.

        Args:
            key: of the run, an integer.
            settings: numbers for the optimizer.
            train, validation: rows.
            stream: whether the rows come as a stream, whose batches have the batch size even where there is one.
            shaken: change weights and inputs by some units in the last place before each step, to see what rounding
                does.
        """
        p, root = self.program, jax.random.key(key)
        key_init, key_run = jax.random.split(root)[0], jax.random.fold_in(root, RUN)
        params, state, optimizer = self.init(key_init, settings)
        train = _weighted(train)
        size = min(p.batch_size or len(train.x), p.batch_size if stream else len(train.x))
        batches, number = -(-len(train.x) // size), np.asarray(train.x).dtype.type
        best, best_value, wait, sure = None, np.inf, 0, True
        moments: list[Moment] = []
        history: dict[str, list[float]] = {}
        for epoch in range(p.epochs):
            key_epoch = jax.random.fold_in(key_run, epoch)
            order = np.arange(len(train.x))
            if p.shuffle and batches > 1:
                order = np.asarray(_order(jax.random.key_data(key_run), jnp.int32(epoch), rows=len(order)))
            sums = dict.fromkeys(("loss", "weight", *p.metrics), number(0))
            for j in range(batches):
                rows = order[j * size : (j + 1) * size]
                batch, mask = _filled(train, rows, size)
                if shaken is not None:
                    params, batch = (_shaken(shaken, tree) for tree in (params, batch))
                own = jax.random.fold_in(key_epoch, j)
                # a whole batch has no mask where all batches are whole
                whole = not stream and len(train.x) % size == 0
                new = self.step(params, state, optimizer, settings, batch, mask, own, whole=whole)
                if not new.finite:
                    seen = evaluation_params(optimizer, params)
                    return [*moments, Moment(params, seen, state, best or (seen, state), history, True, sure)]
                if new.weight > 0:
                    params, state, optimizer = new.params, new.state, new.optimizer
                one = {"loss": new.loss, "weight": new.weight, **new.metrics}
                sums = {name: total + number(one[name]) for name, total in sums.items()}
            values, seen = self._means(sums), evaluation_params(optimizer, params)
            if validation is not None:
                means = self._means(self.judged(seen, state, _weighted(validation)))
                values |= {f"validation_{name}": value for name, value in means.items()}
                value = means[p.monitor]
                close = best is not None and abs(value - best_value) <= CLOSE * (1 + abs(value))
                sure = sure and not (close and not _equal(best, (seen, state)))
                wait = 0 if value < best_value else wait + 1
                best, best_value = ((seen, state), value) if value < best_value else (best, best_value)
            history = {name: [*history.get(name, []), value] for name, value in values.items()}
            ended = wait >= (p.patience or np.inf)
            moments.append(Moment(params, seen, state, best or (seen, state), history, ended, sure))
            if ended:
                break
        return moments

    def _means(self, sums: dict[str, Any]) -> dict[str, float]:
        count = max(float(sums["weight"]), 1e-30)
        plain = self.program.reduction == "sum"
        return {
            name: float(total) / (1 if name == "loss" and plain else count)
            for name, total in sums.items()
            if name != "weight"
        }

    def outputs(self, moment: Moment, x: Any) -> np.ndarray:
        """What the network says after the last step."""
        return np.asarray(self.said(moment.judged, moment.state, x))


def evaluation_params(optimizer: Any, params: Any) -> Any:
    """The parameters to predict with: of schedule-free training the averages x, where y = (1 - β) z + β x is trained.

    `z` may lack parameters that are masked out, and be one vector of all (`optax.flatten`).
    """
    for state in jax.tree.leaves(optimizer, is_leaf=lambda node: isinstance(node, ScheduleFreeState)):
        if isinstance(state, ScheduleFreeState):
            z = state.z
            if isinstance(z, jax.Array) and not isinstance(params, jax.Array):
                z = ravel_pytree(params)[1](z)
            params = jax.tree.map(
                lambda z, y, b=state.b1: y if isinstance(z, optax.MaskedNode) else (y - (1 - b) * z) / b,
                z,
                params,
                is_leaf=lambda node: isinstance(node, optax.MaskedNode),
            )
    return params


_order = jax.jit(permutation, static_argnames=("rows",))


def _sum(values: Any, weight: Any) -> Any:
    return jnp.where(weight > 0, values * weight, 0.0).sum()


def _weighted(rows: Table) -> Table:
    return rows._replace(weight=np.ones(len(rows.x), "float32")) if rows.weight is None else rows


def _filled(train: Table, rows: np.ndarray, size: int) -> tuple[Table, np.ndarray]:
    """A batch, filled up with row 0 that weighs nothing; and which of its rows are true ones."""
    mask = np.arange(size) < len(rows)
    batch = train.taken(np.append(rows, np.zeros(size - len(rows), int)).astype(int))
    return batch._replace(weight=np.where(mask, batch.weight, np.float32(0))), mask


def _shaken(rng: np.random.Generator, tree: Any) -> Any:
    def shaken(a: Any) -> Any:
        a = np.asarray(a)
        if a.dtype.kind != "f":
            return a
        return (a * (1 + 3e-7 * rng.uniform(-1, 1, a.shape))).astype(a.dtype)

    return tree._replace(x=shaken(tree.x)) if isinstance(tree, Table) else jax.tree.map(shaken, tree)


def _equal(one: Any, other: Any) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True))
