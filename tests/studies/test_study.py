"""Sweeps, and the engine under all studies: members equal runs done alone, and do not touch each other."""

import csv
import os
import signal
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import jax
import numpy as np
import optax
import pytest

import fnn
from fnn import arguments
from fnn.arguments import seed_words
from fnn.runs import TrainingInterrupted
from fnn.studies import scheduler
from fnn.studies.chunks import SMALL, TINY, TINY_WIDTHS, WIDTHS, ExecutionPlan, default_width
from fnn.studies.results import ResultTable
from fnn.studies.scheduler import ChunkQueue
from fnn.studies.search_space import draws, log_uniform
from tests.helpers.compare import has_hint
from tests.helpers.problems import LABELS, LOSS, X, same_bits
from tests.helpers.signals import ending_of, handler
from tests.helpers.studies import (
    EPOCHS,
    ONE,
    POINTS,
    TOLERANCE,
    TWO,
    Signals,
    alone,
    difference,
    each_alone,
    has_compiled,
    net,
    swept,
    traced,
)


@pytest.fixture(scope="module")
def whole():
    """Every member's run; three in a program, so that the second chunk is filled up."""
    return swept(keep="all")


@pytest.fixture
def signals(monkeypatch):
    return Signals(monkeypatch)


# ---- a member is the run of `fit` alone


@pytest.mark.parametrize(
    "dtype, width, devices",
    [
        pytest.param("float32", 1, ONE, marks=pytest.mark.slow),
        pytest.param("float32", 3, ONE, marks=pytest.mark.slow),
        ("float32", 4, TWO),
        pytest.param("float64", 3, ONE, marks=pytest.mark.slow),
        pytest.param("float64", 4, TWO, marks=pytest.mark.slow),
    ],
    ids=["one", "three", "four", "float64", "float64 in threads"],
)
def test_a_member_is_the_run_of_fit_alone(dtype, width, devices):
    """With dropout, momentum, penalty, label smoothing, initial scale, patience and seed as settings; validation."""
    with jax.enable_x64(dtype == "float64"):
        found = swept(width=width, devices=devices, keep="all")
        for i, run in enumerate(each_alone(dtype)):
            assert found.runs[i].params[0]["w"].dtype == dtype
            assert difference(found.runs[i], run) < TOLERANCE[dtype]
            outputs = [fnn.predict(net(POINTS[i]), r, X) for r in (found.runs[i], run)]
            np.testing.assert_allclose(*outputs, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


def test_early_stopping_and_the_best_epoch_are_each_members_own(whole):
    runs = each_alone()
    ran = [len(run.history.loss) for run in runs]
    assert ran[0] == ran[2] == EPOCHS and len(set(ran)) == 3
    assert whole.table["epochs"].tolist() == ran
    assert whole.table["epoch"].tolist() == [run.best_epoch for run in runs]
    for i, run in enumerate(whole.runs.values()):
        history = whole.histories["validation_loss"][i]
        assert np.isfinite(history[: ran[i]]).all() and np.isnan(history[ran[i] :]).all()
        np.testing.assert_array_equal(run.history.validation_loss, history[: ran[i]])
        assert run.best_epoch == history[: ran[i]].argmin()
        assert whole.table["validation_loss"][i] == history[run.best_epoch]
        assert whole.table["loss"][i] == whole.histories["loss"][i, run.best_epoch]


# ---- members do not touch each other


def test_adding_and_reordering_members_changes_no_bit_of_another(whole):
    more = [POINTS[3], {**POINTS[0], "lr": 0.7}, POINTS[0], POINTS[2], {**POINTS[1], "seed": 9}, POINTS[1], POINTS[0]]
    found = swept(more, keep="all")
    for i, place in enumerate([2, 5, 3, 0]):
        assert same_bits(found.runs[place], whole.runs[i])
    assert same_bits(found.runs[6], whole.runs[0])
    assert not same_bits(found.runs[1].params, whole.runs[0].params)
    assert same_bits(swept(keep="all", devices=TWO).runs, whole.runs)  # each thread a chunk


def test_a_member_that_diverges_is_last_and_changes_no_bit_of_the_others(whole):
    points = [POINTS[0], {**POINTS[2], "lr": 1e38}, POINTS[2], POINTS[3]]
    found = swept(points, keep="all")
    for place, i in ((0, 0), (2, 2), (3, 3)):
        assert same_bits(found.runs[place], whole.runs[i])
    assert found.table["diverged"].tolist() == [False, True, False, False]
    assert found.best != 1 and found.sorted()[-1]["lr"] == 1e38
    assert str(found).splitlines()[-1].split()[-1] == "yes" and "1e+38" in str(found).splitlines()[-1]
    run = found.runs[1]
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((run.params, run.train_state.params)))
    assert (np.asarray(run.train_state.diverged) >= 0).all()
    assert len(run.history.loss) == found.table["epochs"][1] < EPOCHS


def test_a_member_that_diverged_is_never_the_best(whole, monkeypatch):
    """However good it was before."""
    add, best = ResultTable.add, whole.best

    def and_diverged(figures, places, *more):
        add(figures, places, *more)
        figures.columns["diverged"][places] = places == best

    monkeypatch.setattr(ResultTable, "add", and_diverged)
    for keep in ("best", "all"):
        found = swept(keep=keep)
        assert found.best == whole.table["validation_loss"].argsort()[1]
        assert found.sorted()[-1]["lr"] == POINTS[best]["lr"]
        assert str(found).splitlines()[-1].split()[0] == str(POINTS[best]["lr"])


def test_where_all_diverge_the_first_one_is_called_the_best():
    points = [{**POINTS[i], "lr": 1e38, "l2": 1e-2} for i in (2, 0)]
    for keep in ("best", "all"):
        found = swept(points, keep=keep)
        assert found.table["diverged"].all() and found.best == 0 and found.settings == points[0]
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found.run.params))


# ---- what is compiled


def shaped(s):
    return fnn.serial(fnn.dense(s["features"], weight_init=s["scale"]), fnn.tanh, fnn.dense(2))


@pytest.mark.slow
def test_whole_numbers_compile_once_each_and_other_floats_nothing(compiled):
    sizes = [{"features": 5, "batch_size": 40}, {"features": 3, "batch_size": 50}]
    more = {"loss": LOSS, "penalty": None, "validation": 0.2, "epochs": 20}

    def found(lr, seed):
        points = [{**size, "lr": k * lr, "seed": seed + k, "scale": 0.5 * k} for k in (1, 2) for size in sizes]
        opt = lambda s: optax.adam(s["lr"])  # noqa: E731  made anew each time, on purpose
        return swept(points, net=shaped, optimizer=opt, width=2, keep="all", key=seed + 2, **more)

    first = found(0.01, 0)
    assert has_compiled(compiled) == (2, 2), compiled
    assert [plan.members for plan in first.plans] == [2, 2]
    compiled.clear()
    second = found(0.02, 3)
    assert compiled == []
    assert not same_bits(first.runs, second.runs)
    assert [run.params[0]["w"].shape for run in first.runs.values()] == [(4, 5), (4, 3), (4, 5), (4, 3)]
    point = {"lr": 0.02, "scale": 1.0, "seed": 2}
    net = lambda s: shaped({**s, "features": 3})  # noqa: E731
    run = alone(point, net=net, optimizer=lambda s: optax.adam(s["lr"]), **more, batch_size=50)
    assert difference(first.runs[3], run) < 1e-4
    np.testing.assert_array_equal(first.runs[3].validation_rows, run.validation_rows)


def test_another_sweep_of_these_shapes_compiles_nothing(whole, compiled):
    swept([{**point, "lr": point["lr"] / 3, "rate": 0.4, "patience": 5, "seed": 7} for point in POINTS[:2]])
    swept(epochs=20)  # the history has room for a power of two
    assert has_compiled(compiled) == (0, 0), compiled


# ---- what it gives


@pytest.mark.slow
def test_a_grid_and_settings_that_all_share_are_the_same_as_points(whole):
    common = {**traced(POINTS[0])}
    points = [{**common, "lr": lr, "seed": seed} for lr in (0.1, 0.3) for seed in (0, 4)]
    grid = {"lr": np.array([0.1, 0.3]), "seed": range(0, 5, 4)}
    del common["lr"]
    found, listed = swept(grid, settings=common, keep="all"), swept(points, keep="all")
    assert found.points == [{"lr": point["lr"], "seed": point["seed"]} for point in points]
    assert same_bits(found.runs, listed.runs)
    assert list(found.table)[:3] == ["lr", "seed", "epoch"]
    np.testing.assert_array_equal(found.table["seed"], [0, 4, 0, 4])


def test_without_a_seed_the_key_is_every_members(whole):
    points = [{**traced(point), "patience": point["patience"]} for point in POINTS[:2]]
    for key in (1, jax.random.key(1)):
        found = swept(points, key=key, keep="all")
        assert same_bits(found.runs[1], whole.runs[1])
        assert not same_bits(found.runs[0].params, whole.runs[0].params)


@pytest.mark.parametrize("x64", [False, True])
@pytest.mark.parametrize("seed", [0, 7, 2**31, 2**32 - 1, 2**32 + 5, 2**63 - 1])
def test_a_seed_is_the_key_that_fit_makes_of_it(seed, x64):
    with jax.enable_x64(x64):
        words = [seed >> 32, seed & 0xFFFFFFFF]  # without float64 jax.random.key drops the first
        np.testing.assert_array_equal(seed_words([seed])[0], words)
        np.testing.assert_array_equal(jax.random.key_data(arguments.key(seed)), words)


def test_the_best_member_is_kept_or_all(whole):
    found = swept()
    losses = whole.table["validation_loss"]
    assert found.best == whole.best == losses.argmin() and list(found.runs) == [found.best]
    assert list(whole.runs) == [0, 1, 2, 3]
    assert same_bits(found.run, whole.runs[found.best]) and found.settings == POINTS[found.best]
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves((found.run.params, found.run.train_state)))
    assert found.run.in_shape == (4,) and isinstance(found.run.history.loss, np.ndarray)
    assert swept([POINTS[i] for i in (2, 0, 1)]).best == 1


def test_a_table_that_prints_sorts_and_writes_itself(whole, tmp_path):
    columns = [*POINTS[0], "epoch", "loss", "accuracy", "validation_loss", "validation_accuracy", "epochs", "diverged"]
    assert list(whole.table) == columns
    rows = whole.sorted()
    assert [row["validation_loss"] for row in rows] == sorted(whole.table["validation_loss"].tolist())
    assert [row["lr"] for row in rows] == [POINTS[i]["lr"] for i in whole.table["validation_loss"].argsort()]
    assert [row["lr"] for row in whole.sorted("lr")] == [0.02, 0.1, 0.3, 0.5]
    assert [row["lr"] for row in whole.sorted("lr", largest=True)] == [0.5, 0.3, 0.1, 0.02]
    assert all(type(value) in (int, float, bool) for row in rows for value in row.values())
    head, *lines = str(whole).splitlines()
    assert head.split() == columns
    assert [line.split()[0] for line in lines] == [f"{row['lr']:.4g}" for row in rows]
    whole.to_csv(tmp_path / "table.csv")
    names, *written = csv.reader((tmp_path / "table.csv").read_text().splitlines())
    assert names == columns and [float(row[0]) for row in written] == [point["lr"] for point in POINTS]
    place = columns.index("validation_loss")
    np.testing.assert_array_equal([float(row[place]) for row in written], whole.table["validation_loss"])
    assert {name: values.shape for name, values in whole.histories.items()} == dict.fromkeys(columns[9:13], (4, EPOCHS))


def test_a_name_that_nothing_reads_is_named():
    with pytest.warns(UserWarning, match="settings: .* got 'rate', which none of them reads"):
        fnn.sweep(
            fnn.serial(fnn.dense(2)), LOSS, lambda s: optax.sgd(s["lr"]), (X[:8], LABELS[:8]), epochs=1,
            over={"lr": [0.1, 0.2], "rate": [0.1, 0.2], "seed": [0, 1]}, progress=False,
        )  # fmt: skip


@pytest.mark.slow
def test_without_validation_the_training_loss_tells_the_best():
    ranges = {"lr": log_uniform(1e-3, 1), "l2": log_uniform(1e-5, 1e-3), "rate": [0.0, 0.1], "momentum": [0.5, 0.9]}
    points = draws(4, key=1, **ranges, smoothing=[0.0], scale=[0.5])
    found = swept(points, validation=None)
    assert found.points == points
    assert found.best == found.histories["loss"][:, -1].argmin() == found.table["loss"].argmin()
    assert found.table["epoch"].tolist() == [EPOCHS - 1] * 4 and found.table["epochs"].tolist() == [EPOCHS] * 4
    assert list(found.histories) == ["loss", "accuracy"] and found.run.history.validation_loss is None
    assert found.run.best_epoch is None


@pytest.mark.slow
def test_the_largest_of_a_metric_may_be_the_best_and_of_equal_ones_the_first_is(monkeypatch):
    """Also where threads end in another order."""
    real, later = fnn.studies.scheduler.run_chunk, threading.Event()

    def first_one_last(job, at, *more):
        assert at[0] > 0 or later.wait(60)
        outcome = real(job, at, *more)
        later.set()
        return outcome

    monkeypatch.setattr("fnn.studies.scheduler.run_chunk", first_one_last)
    points = [POINTS[0], POINTS[0], {**POINTS[2], "lr": 1e-6}]
    found = swept(points, width=1, devices=TWO, monitor="accuracy", mode="max")
    accuracies = found.table["validation_accuracy"]
    assert accuracies[0] == accuracies[1] > accuracies[2]
    assert found.best == 0 and list(found.runs) == [0]
    assert (found.monitor, found.mode) == ("validation_accuracy", "max")
    assert [row["validation_accuracy"] for row in found.sorted()] == accuracies.tolist()


@pytest.mark.slow
def test_no_epochs_give_members_that_have_not_begun(compiled):
    found = swept(epochs=0)
    assert found.best == 0 and found.table["epochs"].tolist() == [0] * 4 and np.isnan(found.table["loss"]).all()
    assert found.histories["loss"].shape == (4, 0)


def test_a_bar_shows_all_epochs_of_all_members(monkeypatch, whole):
    bars = []

    class Bar:
        def __init__(self, wanted, total, done):
            self.total, self.done, self.words = total, done, {}
            bars.append(self)

        def update(self, more):
            self.done += more

        def set_postfix(self, words, refresh=True):
            self.words |= words

        def set_description(self, title):
            self.title = title

        def close(self):
            self.closed = True

    monkeypatch.setattr("fnn.fitting.progress._bar", Bar)
    swept(progress=True)
    (bar,) = bars
    assert bar.done == bar.total == 4 * EPOCHS and bar.words == {"finished": "4/4"} and bar.closed
    assert bar.title.startswith("sweep: 4 members, 3 in one program, ")


# ---- how members are run


KEPT = 4 * EPOCHS * 4 * 4  # bytes of the histories of four members: of the loss and the accuracy, of both parts


class Planned(Exception):
    """Instead of running."""


@pytest.fixture
def plan_of(monkeypatch):
    def stop(jobs, take, show, must_stop):
        raise Planned(jobs[0].plan)

    monkeypatch.setattr("fnn.studies.scheduler.run_jobs", stop)

    def plan_of(points=POINTS, **more):
        with pytest.raises(Planned) as caught:
            swept(points, **more)
        return caught.value.args[0]

    return plan_of


def test_members_are_run_as_asked_if_the_memory_allows(plan_of, monkeypatch):
    plan = plan_of()
    assert plan[:3] == (4, 3, tuple(ONE)) and (plan.bytes_ - KEPT) % 3 == 0
    each = (plan.bytes_ - KEPT) // 3
    for memory, width in ((3.1, 3), (2.9, 2), (1.1, 1)):
        assert plan_of(memory=KEPT + memory * each) == (4, width, tuple(ONE), KEPT + width * each)
    assert plan_of(memory=KEPT + 3.1 * each, devices=TWO) == (4, 1, tuple(TWO), KEPT + 2 * each)
    assert plan_of(memory=KEPT + 1.1 * each, devices=TWO) == (4, 1, tuple(ONE), KEPT + each)
    assert plan_of(POINTS[:1], devices=TWO) == (1, 3, tuple(ONE), KEPT // 4 + 3 * each)
    monkeypatch.setattr("fnn.studies.chunks.free_bytes", lambda device: 2 * KEPT + 5 * each)
    assert plan_of(width=8).width == 2  # in half of it
    monkeypatch.setattr("fnn.studies.chunks.free_bytes", lambda device: None)
    assert plan_of(width=8).width == 8  # whatever the number of members


def test_a_member_for_which_there_is_no_memory_raises(plan_of, compiled):
    each = plan_of(width=1).bytes_
    with pytest.raises(MemoryError) as caught:
        swept(memory=0.5 * each)
    assert str(caught.value) == (
        f"memory: expected room for one member and the histories of all, about {each / 1e9:.3g} GB, "
        f"got {each / 2e9:.3g} GB. Take a smaller batch_size."
    )
    assert has_compiled(compiled) == (0, 0)


@pytest.mark.slow
def test_the_histories_of_all_members_are_counted(plan_of):
    """Those that are kept on the host, those of a chunk twice, and what a program has room for, in its dtype."""
    few, many = (plan_of(width=1, epochs=epochs).bytes_ for epochs in (1024, 2048))
    each = 4 * 4  # bytes per epoch of a member
    assert many - few == 1024 * each * (4 + 2 + 2)
    with jax.enable_x64(True):
        few, many = (plan_of(width=1, epochs=epochs).bytes_ for epochs in (1024, 2048))
    assert many - few == 2 * 1024 * each * (4 + 2 + 2)
    over = [{**point, "batch_size": size} for point, size in zip(POINTS, (16, 16, 32, 32), strict=True)]
    few, many = (plan_of(over, width=1, epochs=epochs, batch_size=None).bytes_ for epochs in (1024, 2048))
    assert many - few == 1024 * each * (4 + 2 + 2)  # of both groups, in each plan
    with pytest.raises(MemoryError, match=r"one member and the histories of all, .* Take fewer epochs or members"):
        swept(memory=1e6, epochs=100_000)


def test_the_memory_of_a_member_grows_with_its_batch_and_its_weights(plan_of):
    few, many = plan_of(width=1, batch_size=10).bytes_, plan_of(width=1, batch_size=100).bytes_
    per_row = 2 * 4 * (4 + 8 + 8 + 2)  # what backward needs: inputs of the layers, the mask of dropout
    assert 0.5 * 90 * per_row < many - few < 2 * 90 * per_row
    wide = {"net": lambda s: fnn.serial(fnn.dense(800, weight_init=s["scale"]), fnn.tanh, fnn.dense(2))}
    points = [{name: value for name, value in point.items() if name != "rate"} for point in POINTS]
    grown = plan_of(points, width=1, batch_size=10, **wide).bytes_ - few
    weights = 4 * 800 * (4 + 1 + 2)  # bytes
    assert 6 * weights < grown < 12 * weights  # parameters, momentum, the best; twice


def test_by_default_small_networks_are_trained_together_and_others_one_after_another(plan_of):
    many = 16 * POINTS
    assert 1 < plan_of(many, width=None)[1] <= WIDTHS[0] and plan_of(many, width=None, devices=TWO)[2] == tuple(TWO)
    features = SMALL // 32 // 7 + 1  # so many weights times the rows of a batch are no longer few
    wide = {"net": lambda s: fnn.serial(fnn.dense(features, weight_init=s["scale"]), fnn.tanh, fnn.dense(2))}
    without = [{name: value for name, value in point.items() if name != "rate"} for point in many]  # no dropout
    assert plan_of(without, width=None, **wide)[1] == 1


@pytest.mark.parametrize("workers", [1, 2, 8])
@pytest.mark.parametrize("members", [1, 5, 16, 1000, 100_000])
def test_the_usual_width_is_one_of_few_and_leaves_work_for_all(members, workers):
    sizes = (("cpu", 10, TINY_WIDTHS[0]), ("cpu", TINY, WIDTHS[0]), ("cpu", SMALL, 1), ("gpu", 10, 4096))
    for platform, weights, most in (*sizes, ("gpu", SMALL, 4096)):
        width = default_width(members, workers, weights, 10, platform)
        assert width in (TINY_WIDTHS + WIDTHS if platform == "cpu" else [2**k for k in range(20)]) and width <= most
        assert -(-members // width) >= min(members, workers)
        if platform == "gpu" and workers == 1:
            assert width == min(1 << (members - 1).bit_length(), 4096)  # all that go at once


@pytest.mark.parametrize(("members", "workers", "width"), [(60, 2, 6), (64, 2, 8), (4096, 2, 256)])
def test_a_chunk_is_seldom_filled_up(members, workers, width):
    """60 in chunks of 8 would be 64: a fifteenth for nothing."""
    assert default_width(members, workers, 10, 10, "cpu") == width


def test_members_with_different_activations_are_sooner_one_after_another():
    """A program of several computes each activation for each member."""
    widths = [default_width(180, 2, weights, 64, "cpu", kinds) for weights in (100, 5_000) for kinds in (1, 3)]
    assert widths == [16, 16, 16, 1]


@pytest.mark.parametrize(
    ("workers", "order"), [(1, "000111222333"), (2, "012003112233"), (3, "012300112233")], ids=["one", "two", "three"]
)
def test_a_program_compiles_while_other_workers_have_chunks(workers, order):
    """The third group begins as soon as a program is there, not when all chunks of the others are done."""
    job = SimpleNamespace(group=SimpleNamespace(members=range(9)), plan=SimpleNamespace(width=3))
    queue, taken = ChunkQueue([job] * 4, workers), ""
    while chunk := queue.take():
        taken += str(chunk[0])
        queue.note_compilation(chunk[0])
    assert taken == order


def test_a_plan_tells_itself():
    cpu, other = ONE[0], "another"
    assert str(ExecutionPlan(4, 3, (cpu,), 2_000_000)) == f"4 members, 3 in one program, {cpu}, about 2 MB"
    assert (
        str(ExecutionPlan(4, 1, (cpu, cpu), 1_000)) == f"4 members, one after another, {cpu}, 2 threads, about 0.001 MB"
    )
    assert str(ExecutionPlan(9, 2, (cpu, other), 10**9)) == "9 members, 2 in one program, 2 devices, about 1e+03 MB"


def test_a_thread_computes_as_precisely_as_the_caller_asks(monkeypatch):
    seen = []

    def record(*more):
        seen.append((jax.config.jax_default_matmul_precision, jax.numpy.result_type(float)))
        raise Planned

    monkeypatch.setattr("fnn.studies.scheduler.run_chunk", record)
    for x64 in (False, True):
        with jax.enable_x64(x64), jax.default_matmul_precision("highest"), pytest.raises(Planned):
            swept(devices=TWO)
        assert set(seen) == {("highest", np.dtype("float64" if x64 else "float32"))}
        seen.clear()


def test_an_error_in_one_thread_ends_the_others_with_their_segments(signals, monkeypatch):
    real, both = signals.segments, threading.Barrier(2)

    def segments(*arguments):
        for i, segment in enumerate(real(*arguments)):
            if i == 0 and both.wait(60) == 0:
                raise ZeroDivisionError
            time.sleep(0.5 if i == 1 else 0)  # until the error is known
            yield segment

    monkeypatch.setattr("fnn.studies.jobs.segments", segments)
    with pytest.raises(ZeroDivisionError):
        swept(width=1, devices=TWO)
    assert sorted(signals.lengths)[0] == 1 and len(signals.lengths) == 2 and max(signals.lengths) < 10


# ---- what is refused

NAN = X.copy()
NAN[37, 2] = np.nan
OVER = {name: [value] for name, value in POINTS[0].items()}
BAD = {
    "over a number": (dict(points=0.1), TypeError, "over: expected a dict of lists or a list of dicts, got float"),
    "over nothing": (dict(points={}), ValueError, "over: expected at least one setting, got an empty dict"),
    "a value": (dict(points={**OVER, "lr": ["a"]}), TypeError, r"over\['lr'\]\[0\]: expected a number, got str 'a'"),
    "other names": (
        dict(points=[POINTS[0], {"lr": 0.1}]),
        ValueError,
        r"over\[1\]: expected the names of the first point, .* got \['lr'\]",
    ),
    "seed": (dict(points={**OVER, "seed": [1, 0.5]}), ValueError, "seed: expected a whole number, at least 0, got 0.5"),
    "seed -1": (dict(points={**OVER, "seed": [-1]}), ValueError, "seed: expected a whole number, at least 0, got -1"),
    "patience": (
        dict(points={**OVER, "patience": [3, 0]}),
        ValueError,
        "patience: expected a whole number, at least 1, got 0",
    ),
    "patience 2.5": (dict(points={**OVER, "patience": [3, 2.5]}), ValueError, "patience: expected .* got 2.5"),
    "patience for nothing": (
        dict(validation=None),
        ValueError,
        "patience: expected validation data to judge by, got n",
    ),
    "min_delta": (
        dict(points={**OVER, "min_delta": [0.0, -0.1]}),
        ValueError,
        "min_delta: expected a number of at least 0, got -0.1",
    ),
    "batch_size": (
        dict(points={**OVER, "batch_size": [8.5, 16]}),
        ValueError,
        "batch_size: expected a whole number, at least 1, got 8.5",
    ),
    "key": (dict(points={**OVER, "key": [1]}), ValueError, "over: expected names of your own, got 'key', an argument"),
    "optimizer": (dict(points={**OVER, "optimizer": [1]}), ValueError, "over: expected names of your own, got 'optim"),
    "a column": (
        dict(points={**OVER, "loss": [1.0]}, penalty=lambda s: fnn.penalties.l2(s["l2"] * s["loss"])),
        ValueError,
        "over: expected names of your own, got 'loss', a column of the result. Rename it",
    ),
    "a metric": (
        dict(metrics={"epochs": fnn.accuracy}),
        ValueError,
        "metrics: expected names of your own, got 'epochs', a column of the result. Rename it",
    ),
    "a missing setting": (
        dict(points=[{"lr": 0.1}]),
        ValueError,
        "settings: expected a number named '.*', got .*Pass settings=",
    ),
    "epochs": (dict(epochs=1.5), ValueError, "epochs: expected a whole number, at least 0, got 1.5"),
    "keep": (dict(keep="none"), ValueError, "keep: expected one of 'best', 'all', got 'none'"),
    "width": (dict(width=0), ValueError, "width: expected a whole number, at least 1, got 0"),
    "devices": (
        dict(devices="cpu"),
        TypeError,
        "devices: expected a list of JAX devices, got 'cpu'. Write devices=",
    ),
    "a device": (dict(devices=ONE[0]), TypeError, "devices: expected a list of JAX devices, got CpuDevice"),
    "no devices": (dict(devices=[]), TypeError, r"devices: expected a list of JAX devices, got \[\]"),
    "memory": (dict(memory="1 GB"), ValueError, "memory: expected a number of at least 1, got '1 GB'"),
    "checkpoint": (dict(checkpoint=3), TypeError, "checkpoint: expected a folder, got int"),
    "checkpoint_seconds": (
        dict(checkpoint_seconds=-1),
        ValueError,
        "checkpoint_seconds: expected a number of at least 0, got -1",
    ),
    "no argument of fit": (
        dict(on_nan="raise"),
        TypeError,
        r"sweep: expected arguments of its own or of fit, got on_nan='raise'\. Call help",
    ),
    "a stream": (dict(data=lambda: iter([])), TypeError, r"data: expected a pair \(inputs, targets\), got function"),
    "nan": (dict(data=(NAN, LABELS)), ValueError, r"data\[0\]: expected finite .* the first is row 37"),
    "a label": (dict(data=(X, LABELS + 1)), ValueError, "expected class numbers from 0 to 1, got 2 in row"),
    "weights": (
        dict(weights=np.ones(3)),
        ValueError,
        r"weights: expected shape \(100,\), one weight per row, got \(3,\)",
    ),
    "what fits one shape alone": (
        dict(
            points={"lr": [0.1], "momentum": [0.9], "features": [2, 3]},
            net=lambda s: fnn.serial(fnn.dense(s["features"])),
            loss=lambda y, t: y.sum(-1),
            penalty=None,
            metrics={"m": lambda y, t: y[:, 0] if y.shape[1] == 2 else y.sum()},
        ),
        fnn.ShapeError,
        r"metric m: expected one number per row, shape \(32,\), got \(\)",
    ),
    "a width as a float": (
        dict(
            points={"lr": [0.1], "momentum": [0.9], "features": [2, 3.0]},
            net=lambda s: fnn.serial(fnn.dense(s["features"]), fnn.dense(2)),
            penalty=None,
        ),
        ValueError,
        r"dense: expected a whole number of features, at least 1, got a traced setting \(whole numbers .* 8, not 8.0",
    ),
    "a network for images": (dict(data=(X.reshape(100, 2, 2), LABELS)), fnn.ShapeError, "expected examples of shape"),
    "settings": (dict(settings={"patience": 3}), ValueError, "settings: expected your own names, got 'patience'"),
    "monitor": (
        dict(monitor="f1"),
        ValueError,
        r"monitor: expected 'loss' or a metric's name \('accuracy'\), got 'f1'",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_raises_before_anything_compiles(name, compiled):
    arguments, error, message = BAD[name]
    with pytest.raises(error, match=message) as raised:
        swept(**arguments)
    assert has_hint(str(raised.value))
    assert has_compiled(compiled) == (0, 0)


def test_a_column_that_is_not_there(whole):
    with pytest.raises(ValueError, match=r"by: expected one of lr, momentum, .*, got 'f1'. Name a column."):
        whole.sorted("f1")


# ---- interrupted, kept, gone on with


def test_ctrl_c_ends_a_sweep_early_with_what_there_is(signals, whole):
    signals.send(signal.SIGINT, when=lambda count, segment: segment.state.epoch.max() == 7)
    stop = ending_of(swept, keep="all")
    assert str(stop) == (
        "sweep: expected 4 members to train 25 epochs, got SIGINT when 3 of them had begun; what there is of them is "
        "in no file. Pass checkpoint=folder to keep studies."
    )
    found = stop.run
    assert found.table["epochs"].tolist() == [7, min(7, whole.table["epochs"][1]), 7, 0]
    for name, values in found.histories.items():
        np.testing.assert_array_equal(values[:3, :7], whole.histories[name][:3, :7])
        assert np.isnan(values[:, 7:]).all() and np.isnan(values[3]).all()
    assert list(found.runs) == [0, 1, 2] and found.best == np.nanargmin(found.table["validation_loss"])
    assert found.sorted()[-1]["epochs"] == 0


@pytest.mark.parametrize(
    "number, width, devices, when",
    [
        pytest.param(
            signal.SIGTERM, 3, ONE, lambda count, segment: segment.state.epoch.max() == 7, marks=pytest.mark.slow
        ),
        pytest.param(signal.SIGINT, 3, ONE, lambda count, segment: count == 104, marks=pytest.mark.slow),
        (signal.SIGINT, 1, TWO, lambda count, segment: count == 60),
    ],
    ids=["first chunk", "last chunk", "threads"],
)
def test_the_same_call_goes_on_to_the_bits_of_one_that_nobody_disturbed(
    number, width, devices, when, signals, tmp_path
):  # fmt: skip
    run = {"keep": "all", "width": width, "devices": devices}
    whole = swept(**run)
    signals.send(number, when=when)
    stop = ending_of(swept, **run, checkpoint=tmp_path)
    assert "got SIG" in str(stop) and str(stop).endswith(f"is kept in {tmp_path}. Call sweep again to resume.")
    part = stop.run
    ended = [part.table["epochs"][i] == whole.table["epochs"][i] for i in range(4)]
    assert not all(ended)
    signals.lengths.clear()
    again = swept(**run, checkpoint=tmp_path)
    assert same_bits(again.runs, whole.runs) and again.best == whole.best
    assert same_bits([again.table, again.histories], [whole.table, whole.histories])
    if width == 3:  # is the first chunk run again?
        assert len(signals.lengths) == (1 if all(ended[:3]) else 2)
    signals.lengths.clear()
    finished = swept(**run, checkpoint=tmp_path)
    assert not signals.lengths and same_bits(finished.runs, whole.runs)
    more = swept(**run, checkpoint=tmp_path, epochs=27)
    assert more.table["epochs"].max() == 27 and same_bits(more.histories["loss"][0, :25], whole.histories["loss"][0])


def test_a_signal_when_all_is_done_ends_the_program_too(signals):
    signals.send(signal.SIGINT, when=lambda count, segment: segment.state.epoch.max() == EPOCHS)
    stop = ending_of(swept, POINTS[:3])
    assert "got SIGINT when all was done" in str(stop) and stop.run.table["epochs"].max() == EPOCHS


def test_a_handler_that_returns_lets_the_program_go_on_with_what_there_is(signals):
    signals.send(signal.SIGTERM, when=lambda count, segment: segment.state.epoch.max() == 7)
    with handler(signal.SIGTERM, lambda *of: None), pytest.warns(TrainingInterrupted, match="when 3 of them") as caught:
        assert swept().table["epochs"].max() == 7
    assert caught[0].filename.endswith("studies.py")


@pytest.mark.parametrize("devices", [ONE, TWO], ids=["one", "threads"])
def test_a_storm_of_signals_leaves_no_thread(devices, signals):
    before, threads = signal.getsignal(signal.SIGINT), set(threading.enumerate())
    signals.send(*[signal.SIGINT, signal.SIGTERM] * 20, when=lambda count, segment: count == 5)
    assert ending_of(swept, width=1, devices=devices).run.table["epochs"].min() == 0
    assert signal.getsignal(signal.SIGINT) is before and set(threading.enumerate()) == threads


@pytest.mark.parametrize("devices", [ONE, TWO], ids=["one", "threads"])
def test_a_compiler_that_takes_long_is_not_waited_for(devices, monkeypatch):
    let_go, compiling = threading.Event(), []

    def stuck(lowered, options):
        compiling.append(threading.current_thread())
        os.kill(os.getpid(), signal.SIGINT)
        let_go.wait()

    monkeypatch.setattr("fnn.studies.chunks.compile_with", stuck)
    monkeypatch.setattr("fnn.devices.threads.PATIENCE", 0.05)
    rows = {"data": (X[:95], LABELS[:95])}  # a shape of its own: nothing is compiled
    try:
        stop = ending_of(swept, width=1, devices=devices, **rows)
    finally:
        let_go.set()
    assert "got SIGINT when 0 of them had begun" in str(stop) and stop.run.best == -1
    for thread in compiling:
        thread.join()


def test_nothing_trains_before_all_groups_are_traced(monkeypatch):
    """The first groups are compiled while the last is traced, which then says what does not fit."""
    compiled, trained, traced = threading.Semaphore(0), threading.Event(), []
    trace, note = scheduler.trace_chunk, ChunkQueue.note_compilation

    def trace_until_the_last(*arguments):
        if len(set(traced)) == 2 and arguments[0] not in traced:
            assert compiled.acquire(timeout=60) and compiled.acquire(timeout=60)  # nothing compiles any more
            trained.wait(0.2)  # time to train, for a worker that does not wait
            raise ValueError("the last does not fit")
        traced.append(arguments[0])
        return trace(*arguments)

    def note_compilation(queue, number):
        note(queue, number)
        compiled.release()

    monkeypatch.setattr("fnn.studies.scheduler.trace_chunk", trace_until_the_last)
    monkeypatch.setattr("fnn.studies.scheduler.ChunkQueue.note_compilation", note_compilation)
    points = [{**POINTS[0], "batch_size": size} for size in (17, 33, 34)]
    threads = set(threading.enumerate())
    with pytest.raises(ValueError, match="the last does not fit"):
        swept(points, width=1, devices=TWO, on_segment=lambda segment: trained.set(), compile_effort="low")
    assert not trained.is_set() and set(threading.enumerate()) == threads


LATE_ERROR = """
import sys, threading, numpy as np, optax, fnn
from fnn.studies import chunks, scheduler
compiles, traced, compile_with, trace = threading.Event(), [], chunks.compile_with, scheduler.trace_chunk
def compile_after_note(*given):
    compiles.set()
    return compile_with(*given)
def trace_until_the_last(config, *rest):
    traced.append(config)
    if len(set(traced)) == 3:
        compiles.wait(60)
        raise SystemExit(9)
    return trace(config, *rest)
chunks.compile_with, scheduler.trace_chunk = compile_after_note, trace_until_the_last
net = lambda s: fnn.serial(*[layer for i in range(s["depth"]) for layer in (fnn.dense(8 + i), fnn.tanh)], fnn.dense(1))
x, t = np.ones((60, 3), "float32"), np.ones((60, 1), "float32")
over = {"depth": [5, 6, 7]}
fnn.sweep(net, fnn.losses.squared_error, optax.adam(0.1), (x, t), over=over, epochs=2, batch_size=16, validation=0.2,
          width=1, progress=False, compile_effort="high")
"""


def test_a_program_that_ends_while_others_compile_has_its_own_status():
    """Python waits for the compiler, which aborts the process where it comes back to no Python."""
    environment = {**os.environ, "XLA_FLAGS": ""}  # those of the tests compile in too little time
    command = [sys.executable, "-c", LATE_ERROR]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, done.stderr) == (9, "")


def test_another_study_in_that_folder_is_refused_before_anything_compiles(whole, tmp_path, compiled):
    swept(checkpoint=tmp_path)
    compiled.clear()
    others = {
        "settings, seeds and folds of these members": {"points": [POINTS[0], POINTS[2], POINTS[1], POINTS[3]]},
        "batch_size": {"batch_size": 16},
        "train t": {"data": (X, 1 - LABELS)},
        "net (what it computes)": {"net": lambda s: fnn.serial(net(s), fnn.dense(2))},
        "monitor": {"monitor": "accuracy", "mode": "max"},
    }
    for what, more in others.items():
        with pytest.raises(ValueError) as caught:
            swept(**more, checkpoint=tmp_path)
        message = str(caught.value)
        assert message.startswith(
            f"checkpoint: expected the run that {tmp_path}/0/members-0-2-width-3 is of, got one that"
        )
        assert f"  {what}: expected " in message and "name another folder" in message
    with pytest.raises(ValueError, match=r"checkpoint: expected at least 25 epochs, .* got epochs=24. Ask for as m"):
        swept(epochs=24, checkpoint=tmp_path)
    assert has_compiled(compiled) == (0, 0)


def test_probabilities_where_logits_are_wanted_are_told():
    net = fnn.serial(fnn.dense(2), fnn.softmax)
    x = np.ones((8, 2), "float32")
    with pytest.warns(UserWarning, match="sparse_softmax_cross_entropy expected logits, got softmax"):
        fnn.sweep(
            net, fnn.losses.sparse_softmax_cross_entropy, lambda s: optax.sgd(s["lr"]), (x, np.zeros(8, int)),
            over={"lr": [0.1]}, epochs=1,
        )  # fmt: skip


def test_a_study_goes_on_with_the_width_that_it_was_begun_with(tmp_path):
    about = {"over": {"lr": [0.01, 0.02, 0.03]}, "epochs": 2, "checkpoint": tmp_path}
    x = np.linspace(-1, 1, 8, dtype="float32")[:, None]

    def again(**more):
        return fnn.sweep(
            fnn.serial(fnn.dense(1)),
            fnn.losses.squared_error,
            lambda s: optax.sgd(s["lr"]),
            (x, 2 * x),
            **about,
            **more,
        )

    assert again(width=2).plans[0].width == 2
    assert again().plans[0].width == 2  # three members alone would be run otherwise
    with pytest.raises(ValueError, match=r"width: expected 2, with which the study in .*/0 was started, got 3\. Omit"):
        again(width=3)
    for text in ("", "0", "-3", "3", "111111111111", "two", "\0"):
        (tmp_path / "0" / "width").write_text(text)
        with pytest.raises(fnn.DamagedFile, match=r"/0/width: expected the number 2, as its folders say, got .* Write"):
            again()
    (tmp_path / "0" / "width").unlink()
    assert again().plans[0].width == 2  # its folders say so
    (tmp_path / "0" / "width").write_text("2\n")  # by hand, as the message says
    assert again().plans[0].width == 2
    with pytest.raises(MemoryError, match="memory: expected room for the 2 members per program with which the study"):
        again(memory=again().plans[0].bytes_ * 0.75 / 2)
    assert sorted(os.listdir(tmp_path / "0")) == ["members-0-1-width-2", "members-2-2-width-2", "width"]
