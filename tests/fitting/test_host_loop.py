"""`fit`: what it accepts, what it refuses, what it compiles, what it gives back."""

import threading
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fnn
from fnn.compilation import programs
from tests.helpers.problems import LABELS, LOSS, RNG, X, fit, net, same_bits
from tests.helpers.studies import has_compiled


def test_compiles_once_whatever_the_settings_seed_and_data(compiled):
    def once(lr, momentum, key, x):
        make = lambda s: optax.sgd(s["lr"], momentum=s["momentum"])  # noqa: E731  made anew each time, on purpose
        settings = {"lr": lr, "momentum": momentum}
        return fit(x, optimizer=make, settings=settings, key=key, metrics={"accuracy": fnn.accuracy})

    first = once(0.1, 0.9, 0, X)
    # the run itself compiles exactly once, the last batch of 4 of 100 rows included
    assert sum("run" in name for name in compiled) == 1, compiled
    compiled.clear()
    others = [once(0.2, 0.9, 0, X), once(0.1, 0.5, 0, X), once(0.1, 0.9, 7, X), once(0.1, 0.9, 0, X[::-1])]
    assert compiled == []
    assert all(not same_bits(first.params, other.params) for other in others)
    assert same_bits(first, once(0.1, 0.9, 0, X))


def test_init_and_run_are_compiled_side_by_side_and_the_calls_find_them(monkeypatch, compiled):
    threads, both = [], programs.compile_in_parallel

    def watched(lowerings, must_stop):
        together = threading.Barrier(2, timeout=60)  # neither is kept until the other one ends

        def watch(lower):
            compile_one = lower()

            def compile_watched():
                threads.append(threading.current_thread())
                together.wait()
                return compile_one()

            return compile_watched

        lowerings = list(lowerings)
        made = both([lambda lower=lower: watch(lower) for lower in lowerings], must_stop)
        assert has_compiled(compiled) == ((1, 1) if lowerings else (0, 0))
        compiled.clear()
        return made

    monkeypatch.setattr("fnn.compilation.programs.compile_in_parallel", watched)
    x = X[:97]  # a shape of its own
    fit(x, LABELS[:97])
    assert len(set(threads) - {threading.current_thread()}) == 2 and compiled == []
    fit(x, LABELS[:97], key=3, epochs=2)
    assert len(threads) == 2


def test_rows_are_copied_once_all_is_compiled(monkeypatch):
    seen, compile_all = [], fnn.fitting.host_loop.precompile

    def watch(program, wanted, arguments, data, must_stop):
        seen.extend(np.shares_memory(a, b) for a, b in ((data.train.x, X), (data.train.t, LABELS)))
        compile_all(program, wanted, arguments, data, must_stop)

    monkeypatch.setattr("fnn.fitting.host_loop.precompile", watch)
    fit()
    assert seen == [True, True]  # else a process needs memory for the copy and the compiler at a time


def test_rows_that_change_while_a_run_goes_on_do_not_change_it():
    x, labels = X.copy(), LABELS.copy()

    def overwrite(progress):  # also after the first segment, which has no steps
        x.fill(7.0)
        labels.fill(0)

    assert same_bits(fit(), fit(x, labels, on_segment=overwrite)) and (x == 7).all()


def test_containers_give_the_same_bits_and_are_left_alone(tmp_path):
    pandas = pytest.importorskip("pandas")
    frozen = X.copy()
    frozen.flags.writeable = False
    kinds = [X, X.tolist(), np.asfortranarray(X), frozen, X.astype(">f4"), jnp.asarray(X), pandas.DataFrame(X)]
    runs = [fit(kind, labels) for kind in kinds for labels in (LABELS, LABELS.tolist(), LABELS.astype(">i8"))]
    assert all(same_bits(runs[0], run) for run in runs[1:])
    assert np.array_equal(kinds[5], X)  # the user's device array was not donated
    mapped = np.memmap(tmp_path / "x", np.float32, "w+", shape=X.shape)
    mapped[:] = X
    assert same_bits(runs[0], fit(np.memmap(tmp_path / "x", np.float32, "r", shape=X.shape)))


def test_given_parameters_are_the_start_and_stay_the_users():
    first = fit(epochs=3)
    kept = jax.tree.map(np.asarray, first.params)
    again = fit(epochs=0, params=first.params, state=first.state)
    assert same_bits(again.params, kept)
    assert not same_bits(fit(epochs=1, params=first.params).params, kept)
    assert same_bits(first.params, kept)


def test_no_epochs_give_the_initial_parameters_and_an_empty_history():
    run = fit(epochs=0, validation=(X, LABELS), metrics={"accuracy": fnn.accuracy})
    assert run.history.loss.shape == run.history.validation_metrics["accuracy"].shape == (0,)
    assert run.params[0]["w"].shape == (4, 8)


def test_segments_of_any_length_give_the_same_bits(monkeypatch):
    whole = fit(epochs=40, validation=(X[:20], LABELS[:20]))
    monkeypatch.setattr("fnn.fitting.segments.SEGMENT_SECONDS", 1e-9)  # one step a segment
    assert same_bits(whole, fit(epochs=40, validation=(X[:20], LABELS[:20])))


def test_best_parameters_come_back_and_patience_stops():
    run = fit(X[:30], LABELS[:30], epochs=400, validation=(X[30:], LABELS[30:]), patience=10)
    losses = run.history.validation_loss
    best = int(np.argmin(losses))
    assert len(losses) == best + 11 < 400
    best_loss = fnn.evaluate(net(), run, (X[30:], LABELS[30:]), {"loss": LOSS})["loss"]
    assert best_loss == pytest.approx(losses[best], rel=1e-5)
    assert not same_bits(run.params, run.train_state.params)


def test_weights_count_as_copies():
    counts = RNG.integers(0, 3, len(X))
    copies = fit(np.repeat(X, counts, 0), np.repeat(LABELS, counts, 0), batch_size=None)
    weighted = fit(weights=counts, batch_size=None)
    assert np.allclose(weighted.history.loss, copies.history.loss, rtol=1e-5)


def test_divergence_warns_with_the_place_and_keeps_finite_parameters():
    with pytest.warns(fnn.TrainingDiverged, match=r"in epoch \d+, step \d+ .*settings {'lr': 1e\+30}.*Lower"):
        run = fit(
            loss=fnn.losses.squared_error, t=X[:, :2], optimizer=lambda s: optax.sgd(s["lr"]), settings={"lr": 1e30}
        )
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(run.params))
    assert np.isfinite(run.history.loss).all()
    assert len(run.history.loss) == int(run.train_state.diverged[0]) < 5


def test_float64_data_cut_to_float32_warn_once_and_lists_do_not():
    part = (X.astype("float64"), LABELS)
    with pytest.warns(UserWarning, match=r"^data\[0\], validation\[0\]: float64 data are cut to float32. ") as caught:
        fit(X.astype("float64"), validation=part)
    assert len(caught) == 1 and caught[0].filename.endswith("problems.py")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(X.tolist())


def test_float64_throughout_when_asked_for(x64):
    run = fit(X.astype("float64"), LABELS.astype("int64"), validation=(X, LABELS))
    assert {a.dtype for a in jax.tree.leaves((run.params, run.history))} == {np.dtype("float64")}


@pytest.mark.slow
def test_backprop_and_autodiff_agree_after_300_steps_in_float64(x64):
    runs = [fit(X.astype("float64"), epochs=75, gradient=g) for g in (fnn.autodiff, fnn.backprop)]  # 4 steps an epoch
    pairs = zip(*(jax.tree.leaves(run.params) for run in runs), strict=True)
    assert max(float(jnp.abs(a - b).max()) for a, b in pairs) < 1e-10


@pytest.mark.parametrize("rows, features", [(1, 1), (2, 3)])
def test_edge_sizes(rows, features):
    x, t = np.ones((rows, features), "float32"), np.zeros(rows, "int32")
    run = fit(x, t, batch_size=50)
    assert run.history.loss.shape == (5,)
    with pytest.warns(UserWarning, match=r"expected one output per class, got a single one.* Use sigmoid_cross"):
        one_class = fit(x, t, fnn.serial(fnn.dense(1)), batch_size=None)
    assert one_class.history.loss.tolist() == [0.0] * 5
