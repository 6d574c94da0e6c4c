"""No space, and errors of the disk, at each call that a run or a study makes: it trains on, nothing kept is lost, and
what it says is true."""

import errno
import os
import re
import shutil
import warnings

import optax
import pytest

import fnn
from fnn.devices import atomic
from fnn.storage import checkpoints, folders, locks
from tests.helpers.faults import Faults
from tests.helpers.problems import LABELS, LOSS, X, fit, net, same_bits
from tests.helpers.studies import ONE

EPOCHS = 5


def run(epochs, folder=None):
    return fit(epochs=epochs, checkpoint=folder, checkpoint_seconds=0)


def sweep(epochs, folder=None):
    return fnn.sweep(
        net(), LOSS, lambda s: optax.sgd(s["lr"]), (X, LABELS), over={"lr": [0.1, 0.2, 0.3]}, epochs=epochs,
        batch_size=32, width=2, devices=ONE, keep="all", checkpoint=folder, checkpoint_seconds=0, progress=False,
    )  # fmt: skip


def bits(found):
    return (found.params, found.history) if isinstance(found, fnn.Run) else (found.runs, found.table, found.histories)


def newest(folder):
    """The newest checkpoint in each folder: it must be whole."""
    places = [way for way, _, names in os.walk(folder) if any(name.startswith("checkpoint-") for name in names)]
    return {os.path.relpath(way, folder): checkpoints.read_checkpoint(way).number for way in places}


@pytest.fixture(scope="module", params=[run, sweep], ids=["fit", "sweep"])
def begun(request, tmp_path_factory):
    """What trains, what it ends with, and a folder in which it has begun."""
    train = request.param
    folder = tmp_path_factory.mktemp("begun")
    with pytest.MonkeyPatch.context() as patch:
        often(patch)
        train(2, folder)
        return train, bits(train(EPOCHS)), folder


def often(patch):
    """Write a checkpoint after each epoch or so: several in a run."""
    patch.setattr("fnn.fitting.resume.SHARE", 0)
    patch.setattr("fnn.fitting.segments.SEGMENT_SECONDS", 1e-9)


def with_faults(train, folder, name, place, number):
    """Train while that call fails; what it ended with (None: it was refused), what it said, and the calls it made."""
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        often(patch)
        faults = Faults(patch, atomic, checkpoints, locks, folders)
        faults.fail(name, place, number)
        try:
            made = bits(train(EPOCHS, folder))
        except OSError as error:
            return None, [str(error)], faults.calls
        return made, [str(warning.message) for warning in caught], faults.calls


def judge(train, whole, before, tmp_path, name, place, number):
    """One fault, in a copy of the folder in which it has begun."""
    folder = shutil.copytree(before, tmp_path / f"{name}-{place}-{number}")
    kept = newest(folder)
    made, said, calls = with_faults(train, folder, name, place, number)
    assert made is None or same_bits(made, whole), "trained otherwise"
    assert len(said) <= 1 and all(
        re.search("expected .*, got '(No space left|Input/output error)", text) for text in said
    )
    after = newest(folder)
    assert all(after[way] >= kept[way] for way in kept), "what was kept is lost"
    if made is None:  # what is there could not be read: of a study that may be a later chunk
        assert train is sweep or (after == kept and "replace" not in calls), "refused after something was done"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert same_bits(bits(train(EPOCHS, folder)), whole), "does not go on"
    assert not any(name.endswith((".tmp", ".lock")) for _, _, names in os.walk(folder) for name in names)
    shutil.rmtree(folder)
    return bool(said)


CALLS = {"open": errno.ENOSPC, "write": errno.ENOSPC, "mkdir": errno.ENOSPC, "fsync": errno.EIO, "replace": errno.EIO}
CALLS |= {"os.open": errno.EIO, "remove": errno.EIO, "listdir": errno.EIO}


LATER = dict.fromkeys(["mkdir", "fsync", "remove", "listdir"], pytest.mark.slow)


@pytest.mark.parametrize("name", [pytest.param(name, marks=LATER.get(name, ())) for name in CALLS])
def test_one_call_fails(begun, tmp_path, name):
    judge(*begun, tmp_path, name, 1, CALLS[name])


@pytest.mark.slow
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_each_call_fails_in_turn(begun, tmp_path, number):
    train, whole, before = begun
    calls = with_faults(train, shutil.copytree(before, tmp_path / "none"), None, None, 0)[2]
    said = sum(judge(train, whole, before, tmp_path, None, place, number) for place in range(len(calls)))
    print(f"{train.__name__}, {errno.errorcode[number]}: {len(calls)} calls failed in turn, {said} of them said so")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_where_no_write_succeeds_one_warning_is_given_and_the_result_comes(begun, tmp_path, number, monkeypatch):
    train, whole, _ = begun

    def full(path, pieces):
        raise OSError(number, f"{path}: expected to write the file, got {os.strerror(number)!r}.")

    often(monkeypatch)
    monkeypatch.setattr("fnn.storage.files.write_whole", full)
    monkeypatch.setattr("fnn.storage.folders.write_whole", full)
    with pytest.warns(
        UserWarning, match="Training goes on; were it killed now, it would resume from the newest"
    ) as said:
        assert same_bits(bits(train(EPOCHS, tmp_path)), whole)
    assert len(said) == 1
    assert not newest(tmp_path)
