"""Checkpoints of `fit`: the same call again goes on to the same bits, and no other call is taken for it."""

import functools
import json
import re
import shutil
import sys
import warnings

import jax
import numpy as np
import optax
import pytest

import fnn
from fnn.storage.files import DamagedFile
from tests.helpers.problems import LABELS, LOSS, X, fit, net, same_bits

MORE = {"epochs": 12, "validation": (X[:20], LABELS[:20]), "metrics": {"accuracy": fnn.accuracy}}
AT_THE_END = {"checkpoint_seconds": 1e9}  # one checkpoint for each run, however long it takes on a busy machine


class Killed(Exception):
    """Instead of a kill -9, which test_kill sends."""


@pytest.fixture(scope="module")
def alone():
    return fit(**MORE)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """A folder with checkpoints of a run over 7 epochs, not to be changed."""
    folder = tmp_path_factory.mktemp("checkpoints")
    fit(**MORE | AT_THE_END | {"epochs": 4}, checkpoint=folder)
    fit(**MORE | AT_THE_END | {"epochs": 7}, checkpoint=folder)
    return folder


@pytest.fixture
def folder(checkpoints, tmp_path):
    return shutil.copytree(checkpoints, tmp_path / "copy")


def numbers(folder):
    return sorted(int(path.stem.split("-")[1]) for path in folder.glob("checkpoint-*"))


def refused(kind, **arguments):
    with pytest.raises(kind) as caught, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit(**MORE | arguments)
    return str(caught.value)


def test_more_epochs_than_before_go_on_to_the_bits_of_a_run_without_interruption(alone, folder):
    assert numbers(folder) == [0, 1]
    assert same_bits(fit(**MORE | AT_THE_END, checkpoint=folder), alone)
    assert numbers(folder) == [1, 2]


def test_a_finished_run_comes_back_at_once(folder, compiled):
    before = fit(**MORE | {"epochs": 7})
    written = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    compiled.clear()
    again = fit(**MORE | {"epochs": 7}, checkpoint=str(folder))
    assert same_bits(again, before) and again.best_epoch == before.best_epoch
    assert not any("run" in name or "init" in name for name in compiled)
    assert written == {path: path.stat().st_mtime_ns for path in folder.iterdir()}


@pytest.mark.parametrize("segments_done", [1, 6])
def test_killed_after_any_segment_within_an_epoch_too_it_ends_with_the_same_bits(
    alone, tmp_path, monkeypatch, segments_done
):
    def killing(*args):
        for i, segment in enumerate(fnn.fitting.segments.segments(*args)):
            if i > segments_done:
                raise Killed
            yield segment

    monkeypatch.setattr("fnn.fitting.resume.SHARE", 0)
    with monkeypatch.context() as patch:
        patch.setattr("fnn.fitting.segments.SEGMENT_SECONDS", 1e-9)  # one step a segment, four an epoch
        patch.setattr("fnn.fitting.host_loop.segments", killing)
        with pytest.raises(Killed):
            fit(**MORE, checkpoint=tmp_path, checkpoint_seconds=0)
    assert numbers(tmp_path)[-1] == segments_done
    assert same_bits(fit(**MORE, checkpoint=tmp_path), alone)


def test_a_run_that_has_stopped_by_itself_stays_stopped(tmp_path):
    arguments = MORE | {"epochs": 50, "patience": 1, "optimizer": optax.sgd(2.0)}
    first = fit(**arguments, checkpoint=tmp_path)
    assert len(first.history.loss) < 50
    assert same_bits(fit(**arguments | {"epochs": 80}, checkpoint=tmp_path), first)


OTHER_LOSS = fnn.losses.from_function(lambda y, t: LOSS(y, t) * 2, name="sparse_softmax_cross_entropy")
CHANGED = {
    "the network": (
        {"network": fnn.serial(fnn.dense(9), fnn.tanh, fnn.dense(2))},
        r"net: expected serial\(dense\(8\), tanh, dense\(2\)\), got serial\(dense\(9\), tanh, dense\(2\)\)",
    ),
    "what the loss computes": ({"loss": OTHER_LOSS}, r"loss \(what it computes\): expected \w+, got \w+"),
    "a number of the optimizer": ({"optimizer": optax.sgd(0.11, momentum=0.9)}, r"optimizer.update \(what it"),
    "the optimizer": ({"optimizer": optax.adam(0.1)}, r"optimizer.init \(what it computes\): expected"),
    "the penalty": ({"penalty": fnn.penalties.l2(0.1)}, r"penalty: expected None, got l2\(0.1\)"),
    "the gradient": ({"gradient": fnn.backprop}, "gradient: expected autodiff, got backprop"),
    "a metric": ({"metrics": {"accuracy": LOSS}}, r"metrics.accuracy \(what it computes\): expected"),
    "no metric": ({"metrics": None}, r"metrics.accuracy \(what it computes\): expected \w+, got none"),
    "the inputs": ({"x": X + np.float32(1e-6)}, r"train x: expected \w+, got \w+"),
    "the targets": ({"t": 1 - LABELS}, r"train t: expected \w+, got \w+"),
    "the weights": ({"weights": np.ones(100)}, r"train weight: expected None, got \w+"),
    "the validation": ({"validation": (X[:21], LABELS[:21])}, r"validation x: expected \w+, got \w+"),
    "the key": ({"key": 1}, r"key: expected \[0, 0\], got \[0, 1\]"),
    "the batch size": ({"batch_size": 64}, "batch_size: expected 32, got 64"),
    "shuffle": ({"shuffle": False}, "shuffle: expected True, got False"),
    "the reduction": ({"reduction": "sum"}, "reduction: expected mean, got sum"),
    "the monitor": ({"monitor": "accuracy", "mode": "max"}, "monitor: expected loss, got accuracy"),
    "a setting more": ({"settings": {"lr": 0.5}}, r"settings\['lr'\]: expected none, got 0.5"),
    "the patience": ({"patience": 9}, r"settings\['patience'\]: expected inf, got 9.0"),
}


@pytest.mark.parametrize("name", CHANGED)
def test_another_run_is_refused_with_what_differs(name, checkpoints, compiled):
    changed, message = CHANGED[name]
    text = refused(ValueError, checkpoint=checkpoints, **changed)
    assert text.startswith(f"checkpoint: expected the run that {checkpoints} is of, got one that differs:\n")
    assert text.endswith("\nPass the same arguments as before, or name another folder to start anew.")
    assert re.search(rf"^  {message}", text, re.M), text
    assert not any("run" in n or "init" in n for n in compiled)
    assert numbers(checkpoints) == [0, 1]


def test_where_it_starts_is_a_part_of_what_it_is(checkpoints, alone):
    text = refused(ValueError, checkpoint=checkpoints, params=alone.params)
    assert "\n  params: expected None, got " in text


def test_the_same_made_anew_is_no_difference(checkpoints, alone):
    again = {"epochs": 7, "x": X.tolist(), "t": LABELS.tolist(), "network": net(), "checkpoint": checkpoints}
    assert same_bits(fit(**MORE | again).history, jax.tree.map(lambda h: h[:7], alone.history))


def test_fewer_epochs_than_it_has_behind_it_are_refused(checkpoints):
    assert refused(ValueError, epochs=6, checkpoint=checkpoints) == (
        f"checkpoint: expected at least 7 epochs, which {checkpoints} has behind it, got epochs=6. "
        "Ask for as many, or name another folder to start anew."
    )


def test_of_a_damaged_newest_one_there_is_a_warning_and_the_one_before_it_is_used(alone, folder):
    path = folder / "checkpoint-1.safetensors"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.warns(UserWarning, match=r"checkpoint: .*checkpoint-1.*the check sum.*The one before it is used"):
        assert same_bits(fit(**MORE, checkpoint=folder), alone)
    assert same_bits(fit(**MORE, checkpoint=folder), alone)  # the damaged one has been replaced


def test_where_all_are_damaged_nothing_starts_anew_in_silence(folder):
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes()[:-1])
    assert "expected a whole checkpoint, got 2 damaged" in refused(DamagedFile, checkpoint=folder)


def test_a_write_that_fails_warns_once_and_training_goes_on(alone, tmp_path, monkeypatch):
    tried = []

    def full(folder, number, *rest):
        tried.append(number)
        raise OSError(28, f"{folder}: expected to write the file, got 'No space left on device'.")

    monkeypatch.setattr("fnn.fitting.resume.write_checkpoint", full)
    monkeypatch.setattr("fnn.fitting.resume.SHARE", 0)
    monkeypatch.setattr("fnn.fitting.segments.SEGMENT_SECONDS", 1e-9)
    with pytest.warns(UserWarning) as caught:
        run = fit(**MORE, checkpoint=tmp_path, checkpoint_seconds=0)
    assert same_bits(run, alone)
    assert len(tried) > 10 and set(tried) == {0}
    assert len(caught) == 1 and "No space left" in str(caught[0].message) and caught[0].filename.endswith("problems.py")


def test_another_version_of_jax_warns_and_goes_on(alone, folder, monkeypatch):
    monkeypatch.setattr("fnn.fitting.resume.versions", lambda: {"jax": "0.0.1"})
    with pytest.warns(UserWarning, match=r"checkpoint: expected fnn .* as in .*, got jax 0\.0\.1\. Go on"):
        assert same_bits(fit(**MORE, checkpoint=folder), alone)


def scaled_by(by, *parts):
    of = fnn.autodiff(*parts)
    return lambda *a: (lambda g: g._replace(grads=jax.tree.map(lambda v: by * v, g.grads)))(of(*a))


def scaled(by):
    """A gradient of one's own, of one name whatever the number."""

    def gradient(*parts):
        return scaled_by(by, *parts)

    return gradient


def on_the_host(by):
    """A metric that calls Python: its program holds an address, and not what is called."""
    shape = lambda y: jax.ShapeDtypeStruct(y.shape[:1], y.dtype)  # noqa: E731
    return lambda y, t: jax.pure_callback(lambda y: by * np.asarray(y)[:, 0], shape(y), y, vmap_method="sequential")


def of_another_name(y, t):
    return LOSS(y, t)


SAME = {
    "a gradient": ({"gradient": scaled(0.5)}, {"gradient": scaled(0.5)}),
    "a metric on the host": ({"metrics": {"m": on_the_host(2)}}, {"metrics": {"m": on_the_host(2)}}),
    "a function of another name": ({"loss": lambda y, t: LOSS(y, t)}, {"loss": of_another_name}),
}
OTHER = {
    "the opposite gradient": ({"gradient": scaled(1.0)}, {"gradient": scaled(-1.0)}, r"gradient \(what it computes"),
    "a partial gradient": (
        {"gradient": functools.partial(scaled_by, 1.0)},
        {"gradient": functools.partial(scaled_by, 2.0)},
        r"gradient \(what it computes\): expected",
    ),
    "a metric on the host": (
        {"metrics": {"m": on_the_host(2)}},
        {"metrics": {"m": on_the_host(3)}},
        r"metrics.m \(what it gives for fixed inputs\): expected \[.*\], got \[",
    ),
}
SHORT = {"epochs": 2, "checkpoint_seconds": 1e9}


LATER = dict.fromkeys(["a metric on the host", "a function of another name"], pytest.mark.slow)


@pytest.mark.parametrize("name", [pytest.param(name, marks=LATER.get(name, ())) for name in SAME])
def test_a_part_made_anew_is_the_same(name, tmp_path):
    first, again = SAME[name]
    fit(**SHORT | first, checkpoint=tmp_path)
    assert same_bits(fit(**SHORT | again | {"epochs": 3}, checkpoint=tmp_path), fit(**again | {"epochs": 3}))


LATER = dict.fromkeys(["a partial gradient", "a metric on the host"], pytest.mark.slow)


@pytest.mark.parametrize("name", [pytest.param(name, marks=LATER.get(name, ())) for name in OTHER])
def test_a_part_of_the_same_name_that_computes_something_else_is_refused(name, tmp_path):
    first, again, message = OTHER[name]
    fit(**SHORT | first, checkpoint=tmp_path)
    with pytest.raises(ValueError, match=message):
        fit(**SHORT | again | {"epochs": 3}, checkpoint=tmp_path)


ABROAD = {
    "a loss": ({"loss": lambda y, t: 2 * LOSS(y, t)}, r"loss \(what it gives for fixed inputs\): expected \["),
    "a number of the optimizer": ({"optimizer": optax.sgd(-0.1, momentum=0.9)}, "optimizer.* numbers"),
    "the optimizer": ({"optimizer": optax.sgd(0.1)}, r"optimizer"),
    "the network": ({"network": fnn.serial(fnn.dense(8), fnn.sigmoid, fnn.dense(2))}, r"net: expected serial"),
}


LATER = dict.fromkeys(["the optimizer", "the network"], pytest.mark.slow)


@pytest.mark.parametrize("traced_alike", [pytest.param(True, marks=pytest.mark.slow), False])
@pytest.mark.parametrize("name", [pytest.param(name, marks=LATER.get(name, ())) for name in ABROAD])
def test_after_a_change_of_version_another_run_is_refused_all_the_same(name, traced_alike, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("fnn.fitting.resume.versions", lambda: {"jax": "0.0.1"})
        if not traced_alike:
            real = fnn.fitting.resume.fingerprint
            patch.setattr(
                "fnn.fitting.resume.fingerprint",
                lambda *a, **k: (lambda t: t._replace(digest="0" + t.digest))(real(*a, **k)),
            )
        fit(**SHORT, checkpoint=tmp_path)
    with pytest.warns(UserWarning, match="expected jax 0.0.1 as in"):
        assert len(fit(**SHORT | {"epochs": 3}, checkpoint=tmp_path).history.loss) == 3
    changed, message = ABROAD[name]
    with monkeypatch.context() as patch:
        patch.setattr("fnn.fitting.resume.versions", lambda: {"jax": "0.0.2"})
        if not traced_alike:
            message = message.replace(".* numbers", r" \(what it gives for fixed inputs\)")
            patch.setattr(
                "fnn.fitting.resume.fingerprint",
                lambda *a, **k: (lambda t: t._replace(digest="1" + t.digest))(real(*a, **k)),
            )
        assert re.search(message, refused_short(tmp_path, changed))


def refused_short(folder, changed):
    with pytest.raises(ValueError) as caught, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit(**SHORT | {"epochs": 4} | changed, checkpoint=folder)
    return str(caught.value)


def test_what_cannot_be_compared_is_said(tmp_path):
    def failing(y):
        if np.asarray(y).shape == (3, 2):  # of the fixed inputs
            raise OSError("no such host")
        return np.asarray(y)[:, 0]

    def metric(y, t):
        return jax.pure_callback(failing, jax.ShapeDtypeStruct(y.shape[:1], y.dtype), y)

    fit(**SHORT, metrics={"m": metric}, checkpoint=tmp_path)
    with pytest.warns(UserWarning, match="checkpoint: expected the metrics.m of .*, got what could not be compared"):
        fit(**SHORT | {"epochs": 3}, metrics={"m": metric}, checkpoint=tmp_path)


def test_no_address_is_kept(tmp_path):
    fit(**SHORT | SAME["a metric on the host"][0], loss=lambda y, t: LOSS(y, t), checkpoint=tmp_path)
    about = fnn.storage.checkpoints.read_checkpoint(tmp_path).description
    assert not re.search("0x[0-9a-f]", json.dumps(about))
    assert about["programs"]["metrics.m"]["exact"] is False and about["programs"]["net"]["exact"] is True
    assert about["programs"]["optimizer.update"]["numbers"] == pytest.approx([0.9, -0.1])


def test_a_checkpoint_of_an_older_description_is_refused_with_what_it_is(folder, monkeypatch):
    found = fnn.storage.checkpoints.read_checkpoint(folder)
    about = {name: value for name, value in found.description.items() if name != "description"}
    fnn.storage.checkpoints.write_checkpoint(folder, 9, found.leaves, about)
    text = refused(ValueError, checkpoint=folder)
    assert text.startswith("checkpoint: expected one that describes its run as this version of fnn does, got ")
    assert "Go on with the version that wrote it, or name another folder to start anew" in text


def noisy(settings=None):
    rate = 0.1 if settings is None else settings["lr"]
    return optax.chain(optax.add_noise(0.01, 0.5, jax.random.key(0)), optax.sgd(rate))


@pytest.mark.parametrize("implementation", [pytest.param("threefry2x32", marks=pytest.mark.slow), "rbg"])
def test_typed_keys_in_the_state_of_an_optimizer_are_kept(implementation, tmp_path):
    def optimizer():
        return optax.chain(
            optax.add_noise(0.01, 0.5, jax.random.key(0, impl=implementation)), optax.sgd(0.1, momentum=0.9)
        )

    whole = fit(epochs=4, optimizer=optimizer())
    fit(**SHORT, optimizer=optimizer(), checkpoint=tmp_path)
    run = fit(**SHORT | {"epochs": 4}, optimizer=optimizer(), checkpoint=tmp_path)
    plain = lambda run: fnn.arguments.trees.without_keys((run.train_state, run.history))  # noqa: E731
    assert same_bits(plain(run), plain(whole))
    key = run.train_state.optimizer[0].rng_key
    assert key.dtype == jax.random.key(0, impl=implementation).dtype


@pytest.mark.slow
def test_typed_keys_in_a_study_are_kept_too(tmp_path):
    def study(epochs, **more):
        about = {"over": {"lr": [0.1, 0.05]}, "epochs": epochs, "batch_size": 32, "progress": False}
        return fnn.sweep(net(), LOSS, noisy, (X, LABELS), **about | more)

    whole = study(3)
    study(2, checkpoint=tmp_path, checkpoint_seconds=1e9)
    assert same_bits(study(3, checkpoint=tmp_path).run.params, whole.run.params)


@pytest.mark.parametrize("dtype", ["bfloat16", pytest.param("float16", marks=pytest.mark.slow)])
def test_sixteen_bit_parameters_are_kept(dtype, tmp_path):
    params = jax.tree.map(lambda a: a.astype(dtype), net().init(jax.random.key(0), (4,))[0])
    whole = fit(epochs=4, params=params)
    fit(**SHORT, params=params, checkpoint=tmp_path)
    assert same_bits(fit(**SHORT | {"epochs": 4}, params=params, checkpoint=tmp_path), whole)
    other = jax.tree.map(lambda a: a * 1.5, params)
    with pytest.raises(ValueError, match="params: expected"):
        fit(**SHORT | {"epochs": 4}, params=other, checkpoint=tmp_path)


def test_a_folder_that_cannot_be_made_is_named_before_anything_compiles(tmp_path, compiled):
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        text = refused(OSError, checkpoint=place)
        assert "checkpoint: expected a folder, got " in text and str(place) in text
    assert not any("run" in name or "init" in name for name in compiled)


def test_without_safetensors_the_command_is_named_before_the_run(tmp_path, monkeypatch, compiled):
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    assert 'Run: pip install "fnn[files]"' in refused(ImportError, checkpoint=tmp_path)
    assert not any("run" in name or "init" in name for name in compiled)


# ---- noise of a full batch, which was drawn with the key of the epoch before

NOISY = fnn.serial(fnn.dense(4), fnn.dropout(0.5), fnn.dense(2))


def quietly_noisy(*parts):
    """A gradient of one's own that draws noise."""
    of = fnn.autodiff(*parts)

    def gradient(params, state, x, t, weight, key, train):
        g = of(params, state, x, t, weight, key, train)
        return g._replace(grads=jax.tree.map(lambda a: a + 1e-3 * jax.random.normal(key, a.shape), g.grads))

    return gradient


@pytest.fixture
def older(monkeypatch):
    """A function: a checkpoint of two epochs, described as before."""

    def write(folder, run):
        with monkeypatch.context() as patch:
            patch.setattr("fnn.fitting.resume.uses_key", lambda gradient: False)
            return run(2, folder)

    return write


def one_run(**more):
    return lambda epochs, folder: fit(epochs=epochs, checkpoint=folder, **more)


def folds(batch_size, layer):
    """Folds of 50 rows, of which a batch may hold all."""
    net = fnn.serial(fnn.dense(4), layer, fnn.dense(2))
    return lambda epochs, folder: fnn.cross_validate(
        net, LOSS, optax.sgd(0.1), (X, LABELS), folds=2, epochs=epochs, batch_size=batch_size, checkpoint=folder,
        progress=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    "run",
    [
        pytest.param(one_run(network=NOISY, batch_size=None), marks=pytest.mark.slow),
        pytest.param(one_run(network=NOISY, batch_size=100), marks=pytest.mark.slow),
        pytest.param(one_run(gradient=quietly_noisy, batch_size=None), marks=pytest.mark.slow),
        pytest.param(folds(50, fnn.dropout(0.5)), marks=pytest.mark.slow),
    ],
    ids=["None", "as many as rows", "gradient", "folds"],
)
def test_an_older_run_with_noise_of_a_full_batch_is_refused(run, older, tmp_path):
    older(tmp_path / "older", run)
    with pytest.raises(ValueError) as caught:
        run(4, tmp_path / "older")
    assert (
        "\n  noise of a full batch: expected drawn with the key of its epoch, got drawn with the key of its step\n"
        in str(caught.value)
    )
    run(2, tmp_path / "now")
    run(4, tmp_path / "now")


@pytest.mark.parametrize(
    "run",
    [
        one_run(batch_size=None),
        pytest.param(one_run(network=NOISY, batch_size=99), marks=pytest.mark.slow),
        pytest.param(folds(49, fnn.dropout(0.5)), marks=pytest.mark.slow),
        pytest.param(folds(50, fnn.tanh), marks=pytest.mark.slow),
    ],
    ids=["no noise", "two batches", "folds of two batches", "folds without noise"],
)
def test_any_other_older_run_goes_on(run, older, tmp_path):
    older(tmp_path, run)
    run(4, tmp_path)
