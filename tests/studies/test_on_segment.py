"""`on_segment=` of studies: every epoch of every member is heard of, and True ends the study with what there is."""

import jax
import numpy as np
import optax
import pytest

import fnn
from tests.helpers.studies import has_compiled

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 3)).astype("float32")
C = (X[:, 0] > 0).astype(int)
NET = fnn.serial(fnn.dense(3), fnn.tanh, fnn.dense(2))
PARTS = NET, fnn.losses.sparse_softmax_cross_entropy, lambda s: optax.sgd(s["lr"]), (X, C)
ONE = jax.devices()[:1]
MORE = {"epochs": 6, "batch_size": 8, "progress": False}
OVER = {"over": {"lr": [0.01, 0.1, 0.5, 1.0, 2.0]}}


@pytest.fixture(autouse=True)
def short_segments(monkeypatch):
    monkeypatch.setattr("fnn.fitting.segments.SEGMENT_SECONDS", 1e-9)  # one step each


def heard(seen, members, figure):
    """The values of a figure that were heard of, `(members, epochs)`."""
    found = np.full((members, 6), np.nan, "float32")
    for part in seen:
        values = part.history.figures()[figure]
        assert values.shape[0] == len(part.members) and part.epochs == 6 and part.rows_per_second > 0
        found[part.members, part.first_epoch : part.first_epoch + values.shape[1]] = values
    return found


@pytest.mark.parametrize("width, devices", [(1, ONE), (3, ONE), (2, ONE * 2)], ids=["one", "three", "threads"])
def test_it_is_called_with_every_epoch_of_every_member(width, devices):
    seen = []
    more = {"validation": 0.25, "width": width, "devices": devices, **OVER, **MORE}
    found = fnn.sweep(*PARTS, on_segment=seen.append, **more)
    for figure, values in found.histories.items():
        np.testing.assert_array_equal(heard(seen, 5, figure), values)
    best = {
        int(member): int(epoch) for part in seen for member, epoch in zip(part.members, part.best_epoch, strict=True)
    }
    assert [best[member] for member in range(5)] == found.table["epoch"].tolist()


@pytest.mark.slow
def test_members_of_several_programs_are_rows_of_the_table(compiled):
    seen, parts = [], (lambda s: fnn.serial(fnn.dense(s["units"]), fnn.tanh, fnn.dense(2)), *PARTS[1:])
    over = {"lr": [0.1, 1.0], "units": [2, 3]}
    found = fnn.sweep(*parts, over=over, on_segment=seen.append, width=2, devices=ONE, **MORE)
    np.testing.assert_array_equal(heard(seen, 4, "loss"), found.histories["loss"])
    fnn.clear_caches()
    compiled.clear()
    fnn.sweep(*parts, over=over, on_segment=lambda progress: True, width=2, devices=ONE, **MORE)
    assert has_compiled(compiled) == (1, 1)  # the second program is not begun


@pytest.mark.slow
def test_of_a_cross_validation_a_member_is_a_point_and_a_fold():
    seen = []
    more = {"folds": 3, "width": 4, "devices": ONE, **OVER, **MORE}
    found = fnn.cross_validate(*PARTS, on_segment=seen.append, **more)
    wanted = found.histories["validation_loss"].reshape(15, 6)
    np.testing.assert_array_equal(heard(seen, 15, "validation_loss"), wanted)


@pytest.mark.slow
def test_true_ends_the_study_with_what_there_is_and_the_same_call_goes_on(tmp_path):
    def after_three(progress):
        return progress.first_epoch + progress.history.loss.shape[1] >= 3

    more = {"width": 5, "devices": ONE, "checkpoint": tmp_path, "checkpoint_seconds": 0, **OVER, **MORE}
    part = fnn.sweep(*PARTS, on_segment=after_three, **more)
    assert part.table["epochs"].tolist() == [3] * 5 and np.isfinite(part.table["loss"]).all()
    whole, again = fnn.sweep(*PARTS, **{**more, "checkpoint": None}), fnn.sweep(*PARTS, **more)
    np.testing.assert_array_equal(again.histories["loss"], whole.histories["loss"])
    folds = fnn.cross_validate(*PARTS, on_segment=lambda progress: True, folds=2, **OVER, **MORE)
    assert folds.run is None and folds.best == -1
    ended = fnn.ensemble(*PARTS[:2], optax.sgd(0.1), PARTS[3], members=3, on_segment=after_three, width=3, **MORE)
    assert ended.table["epochs"].tolist() == [3, 3, 3] and ended.predict(X).mean.shape == (40, 2)
    with pytest.raises(ValueError, match="expected members that trained, got none: on_segment ended it too early"):
        fnn.ensemble(*PARTS[:2], optax.sgd(0.1), PARTS[3], members=2, on_segment=lambda progress: True, **MORE)


@pytest.mark.slow
def test_an_error_in_it_ends_the_study():
    def fail(progress):
        raise RuntimeError("the disk of the log is full")

    for devices in (ONE, ONE * 2):
        with pytest.raises(RuntimeError, match="the disk of the log"):
            fnn.sweep(*PARTS, on_segment=fail, width=2, devices=devices, **OVER, **MORE)
    with pytest.raises(TypeError, match="on_segment: expected a function of one argument, got int 3"):
        fnn.sweep(*PARTS, on_segment=3, **OVER, **MORE)
