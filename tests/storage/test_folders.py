"""Whose a folder is: a run's or a study's, of one process at a time; what is in it and cannot be used is named."""

import errno
import os
import shutil
import warnings

import numpy as np
import optax
import pytest

import fnn
from fnn.storage import files
from fnn.storage.folders import chunk_folder, open_folder, read_width, write_width
from tests.helpers.faults import Faults
from tests.helpers.problems import LABELS, LOSS, X, fit, net, same_bits
from tests.helpers.studies import ONE


def sweep(folder, **more):
    """Two members of two groups."""
    return fnn.sweep(
        net(), LOSS, lambda s: optax.sgd(s["lr"]), (X, LABELS), over={"lr": [0.1, 0.2], "batch_size": [25, 50]},
        epochs=1, devices=ONE, checkpoint=folder, checkpoint_seconds=1e9, progress=False, **more,
    )  # fmt: skip


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A folder of a run, and one of a study; not to be changed."""
    of_run, of_study = (tmp_path_factory.mktemp(name) for name in ("run", "study"))
    fit(epochs=1, checkpoint=of_run)
    sweep(of_study)
    return of_run, of_study


def contents(folder):
    return {os.path.join(way, name): os.stat(os.path.join(way, name)).st_mtime_ns
            for way, _, names in os.walk(folder) for name in names}  # fmt: skip


def refused(call, kind=ValueError):
    with pytest.raises(kind) as caught:
        call()
    return str(caught.value)


def test_a_run_in_the_folder_of_a_study_and_a_study_in_that_of_a_run_are_refused(folders, compiled):
    of_run, of_study = folders
    before = contents(of_run), contents(of_study)
    for place in (of_study, of_study / "0"):
        text = f"checkpoint: expected the folder of a run, got {place}, a study's. Name another folder."
        assert refused(lambda place=place: fit(epochs=2, checkpoint=place)) == text
    text = f"checkpoint: expected the folder of a study, got {of_run}, which is a run's. Name another folder."
    assert refused(lambda: sweep(of_run)) == text
    assert "expected the folder of a study, not of a part of one" in refused(lambda: sweep(of_study / "1"))
    assert before == (contents(of_run), contents(of_study))
    assert not any("run" in name or "init" in name for name in compiled)


def test_a_run_in_the_place_of_a_group_is_found_and_folders_beside_each_other_are_not(folders, tmp_path):
    of_run, of_study = folders
    shutil.copytree(of_run, tmp_path / "study" / "0")
    assert f"got {tmp_path}/study/0, which is a run's" in refused(lambda: sweep(tmp_path / "study"))
    shutil.copytree(of_run, tmp_path / "all" / "one run")
    shutil.copytree(of_study, tmp_path / "all" / "one study")
    for of_study in (True, False):
        with open_folder(str(tmp_path / "all"), of_study):
            pass


def test_another_study_is_refused_though_its_chunks_have_other_names(folders, tmp_path, compiled):
    """And one with more members is not."""
    folder = shutil.copytree(folders[1], tmp_path / "study")
    for chunk in folder.glob("*/members-0-*"):
        chunk.rename(chunk.parent / chunk.name.replace("members-0-0", "members-7-7"))
    before = contents(folder)
    text = refused(lambda: sweep(folder, metrics={"accuracy": fnn.accuracy}))
    assert text.startswith(
        f"checkpoint: expected the run that {folder}/0/members-1-1-width-1 is of, got one that differs"
    )
    assert "  metrics: expected [], got ['accuracy']" in text and contents(folder) == before
    assert not any("run" in name or "init" in name for name in compiled)
    sweep(folder)


LATER = [pytest.param(text, marks=pytest.mark.slow) for text in ("0", "111111111111", " ", "²")]


@pytest.mark.parametrize("text", ["", "-3", "99", *LATER])
def test_a_width_that_cannot_be_is_named_and_nothing_begins_anew(folders, tmp_path, text, compiled):
    folder = shutil.copytree(folders[1], tmp_path / "study")
    (folder / "1" / "width").write_text(text)
    before = contents(folder)
    compiled.clear()
    said = refused(lambda: sweep(folder), fnn.DamagedFile)
    assert said.startswith(f"{folder}/1/width: expected the number ") and ", as its folders say, got '" in said
    assert contents(folder) == before and not any("run" in name for name in compiled)
    (folder / "1" / "width").write_text(said.partition("Write ")[2].split()[0])  # as it says
    sweep(folder)
    for chunk in (folder / "1").glob("members-*"):
        shutil.rmtree(chunk)
    (folder / "1" / "width").write_text(text)
    if text != "99":  # a width that may be, where no folder says otherwise
        assert "Delete it, or name another folder" in refused(lambda: sweep(folder), fnn.DamagedFile)


def test_a_width_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "width").mkdir()
    with pytest.raises(OSError, match="width: expected a number, got 'Is a directory'"):
        read_width(str(tmp_path))


def test_a_width_is_whole_or_absent_and_what_a_killed_process_left_is_removed(tmp_path):
    (tmp_path / ".width.0123.tmp").write_text("1")
    assert read_width(str(tmp_path)) is None
    write_width(str(tmp_path), 3)
    assert os.listdir(tmp_path) == ["width"] and read_width(str(tmp_path)) == 3
    (tmp_path / "width").unlink()
    for first, width in ((0, 2), (2, 4)):
        os.mkdir(chunk_folder(str(tmp_path), first, first + 1, width))
    assert "expected the number 2 or 4, as its folders say, got ''" in refused(lambda: read_width(str(tmp_path)))


def test_a_folder_that_was_made_for_nothing_is_removed(tmp_path):
    with pytest.raises(KeyError), open_folder(str(tmp_path / "a" / "b"), False):
        raise KeyError
    assert os.listdir(tmp_path) == []
    with open_folder(str(tmp_path / "a" / "b"), False):
        (tmp_path / "a" / "b" / "kept").touch()
    assert os.listdir(tmp_path / "a" / "b") == ["kept"]


# ---- a newest checkpoint that cannot be read


@pytest.fixture(scope="module")
def longer(tmp_path_factory):
    """A folder with two checkpoints of a run over two epochs, and what four epochs end with."""
    folder = tmp_path_factory.mktemp("longer")
    for epochs in (1, 2):
        fit(epochs=epochs, checkpoint=folder, checkpoint_seconds=1e9)
    return folder, fit(epochs=4)


@pytest.mark.parametrize("error", ["EIO", "EACCES", "dangling", "loop", "empty"])
def test_of_a_newest_one_that_cannot_be_read_the_one_before_is_used_with_a_warning(
    longer, tmp_path, monkeypatch, error
):
    folder, whole = longer
    folder = shutil.copytree(folder, tmp_path / "copy")
    newest, words = folder / "checkpoint-1.safetensors", "expected a file, got "
    with monkeypatch.context() as patch:
        if error in ("dangling", "loop"):
            newest.unlink()
            newest.symlink_to({"dangling": "nowhere", "loop": newest.name}[error])
        elif error == "empty":
            newest.write_bytes(b"")
            words = "expected a file written by fnn, got an empty one"
        else:
            number = getattr(errno, error)
            Faults(patch, files).fail("open", 0, number)
            words += f"'{os.strerror(number)}'"
        with pytest.warns(UserWarning, match=f"checkpoint: {newest}: {words}.* The one before it is used"):
            assert same_bits(fit(epochs=4, checkpoint=folder), whole)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert same_bits(fit(epochs=4, checkpoint=folder), whole)


def test_where_none_can_be_read_nothing_begins_anew(longer, tmp_path):
    folder = shutil.copytree(longer[0], tmp_path / "copy")
    for path in folder.glob("checkpoint-*"):
        path.unlink()
        path.symlink_to("nowhere")
    assert "checkpoint-0.safetensors (expected a file, got 'No such" in refused(
        lambda: fit(epochs=4, checkpoint=folder)
    )
    assert sorted(os.listdir(folder)) == ["checkpoint-0.safetensors", "checkpoint-1.safetensors"]


# ---- a checkpoint with a right check sum that is not right


def test_a_state_that_cannot_be_is_named(longer, tmp_path):
    found = fnn.storage.checkpoints.read_checkpoint(longer[0])
    changes = {
        "state/epoch": found.leaves["state/epoch"] + 1,
        "state/step": found.leaves["state/step"] - 1,
        "state/best_epoch": found.leaves["state/best_epoch"] + 9,
        "history/loss": found.leaves["history/loss"][:1],
        "state/key": found.leaves["state/key"].astype("int32"),
    }
    for name, array in changes.items():
        folder = tmp_path / name.replace("/", "-")
        folder.mkdir()
        about = {"kind": "checkpoint", "format": files.FORMAT, "description": found.description}
        files.write(folder / "checkpoint-0.safetensors", found.leaves | {name: np.asarray(array)}, about)
        text = refused(lambda folder=folder: fit(epochs=4, checkpoint=folder), fnn.DamagedFile)
        assert text.startswith(f"{folder}/checkpoint-0.safetensors: expected the state of this run, got "), name
