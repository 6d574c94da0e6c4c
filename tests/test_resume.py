"""Checkpoints of `fit`: the same call again goes on to the same bits, and no other call is taken for it."""

import re
import shutil
import sys
import warnings

import jax
import numpy as np
import optax
import pytest

import fnn
from fnn.files import DamagedFile
from tests.fitted import LABELS, LOSS, X, fit, net, same_bits

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
        for i, segment in enumerate(fnn.segments.segments(*args)):
            if i > segments_done:
                raise Killed
            yield segment

    monkeypatch.setattr("fnn.resume.SHARE", 0)
    with monkeypatch.context() as patch:
        patch.setattr("fnn.segments.SEGMENT_SECONDS", 1e-9)  # one step a segment, four an epoch
        patch.setattr("fnn.fitting.segments", killing)
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
    assert text.endswith("\nDo ask for the same as before, or name another folder to start anew.")
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
        "Do ask for as many, or name another folder to start anew."
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

    monkeypatch.setattr("fnn.resume.write_checkpoint", full)
    monkeypatch.setattr("fnn.resume.SHARE", 0)
    monkeypatch.setattr("fnn.segments.SEGMENT_SECONDS", 1e-9)
    with pytest.warns(UserWarning) as caught:
        run = fit(**MORE, checkpoint=tmp_path, checkpoint_seconds=0)
    assert same_bits(run, alone)
    assert len(tried) > 10 and set(tried) == {0}
    assert len(caught) == 1 and "No space left" in str(caught[0].message) and caught[0].filename.endswith("fitted.py")


def test_another_version_of_jax_warns_and_goes_on(alone, folder, monkeypatch):
    monkeypatch.setattr("fnn.resume.versions", lambda: {"jax": "0.0.1"})
    with pytest.warns(UserWarning, match=r"checkpoint: expected fnn .* as in .*, got jax 0\.0\.1\. Do go on"):
        assert same_bits(fit(**MORE, checkpoint=folder), alone)


def test_a_folder_that_cannot_be_made_is_named_before_anything_compiles(tmp_path, compiled):
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        text = refused(OSError, checkpoint=place)
        assert "checkpoint: expected a folder, got " in text and str(place) in text
    assert not any("run" in name or "init" in name for name in compiled)


def test_without_safetensors_the_command_is_named_before_the_run(tmp_path, monkeypatch, compiled):
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    assert 'Do run: pip install "fnn[files]"' in refused(ImportError, checkpoint=tmp_path)
    assert not any("run" in name or "init" in name for name in compiled)
