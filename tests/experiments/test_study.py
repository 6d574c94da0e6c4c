"""The choice of settings and the ensemble at small size: do they keep to their rows, and say what they found?"""

from types import SimpleNamespace

import numpy as np
import pytest

import fnn
from experiments import model_choice

SMALL = model_choice.Settings(
    tasks=(model_choice.CANCER._replace(epochs=4, hidden=8, least=85.0),),
    rates=(0.03, 0.1),
    penalties=(0.0, 1e-2),
    folds=3,
    members=4,
)


@pytest.fixture(scope="module")
def result():
    return model_choice.main(SMALL)


@pytest.fixture(scope="module")
def studied(result):
    return result.numbers["studied"][0]


@pytest.mark.slow
def test_every_row_holds_and_every_picture_is_there(result):
    assert [row.quantity for row in result.rows if not row.ok] == []
    assert len(result.rows) == 5 and len(result.notes) == 3
    heat, table, spreads = (figure.picture for figure in result.figures)
    assert len([t for t in heat.axes[0].texts if "±" in t.get_text()]) == 4
    assert table[0].split()[:4] == ["lr", "l2", "loss", "loss_std"]
    lines = spreads.axes[0].get_lines()
    assert [int(line.get_label().split(" rows")[0].split(": ")[1]) for line in lines] == [
        len(line.get_xdata()) - 1 for line in lines
    ]


@pytest.mark.slow
def test_the_numbers_are_those_of_the_rows_they_speak_of(studied):
    assert (len(studied.t), len(studied.held)) == (426, 143)
    assert studied.found.predictions.shape == (426, 2) and studied.members.shape == (4, 143, 2)
    shares = np.bincount(studied.t) / 426, np.bincount(studied.held) / 143
    np.testing.assert_allclose(*shares, atol=1 / 143)
    assert studied.found.settings in studied.found.points and studied.found.table["diverged"].sum() == 0
    np.testing.assert_allclose(studied.together.mean, studied.members.mean(0), atol=1e-6)
    np.testing.assert_allclose(studied.together.spread, studied.members.std(0), atol=1e-6)
    # member 0 has the key, rows and settings of the network that was trained anew
    assert studied.singly[0] == pytest.approx(studied.held_out, abs=0.7)


@pytest.mark.slow
def test_held_out_rows_have_no_say(studied, monkeypatch):
    def poisoned(*of, hold_out=fnn.hold_out, **more):
        train, (x, t) = hold_out(*of, **more)
        return train, (1e3 * x, t)

    monkeypatch.setattr(model_choice.fnn, "hold_out", poisoned)
    again = model_choice.study(SMALL.tasks[0], SMALL)
    for name, values in studied.found.table.items():
        np.testing.assert_array_equal(again.found.table[name], values)
    assert (again.found.run.params[0]["w"] == studied.found.run.params[0]["w"]).all()
    assert (again.members != studied.members).any()


def made(read, truth, members, spread=(0.1, 0.3)):
    """What is found if so many rows are read rightly."""
    held = np.array([0, 1, 1, 0])
    mean = np.array(members, float).mean(0)
    apart = np.where(mean.argmax(1) == held, *spread)[:, None].repeat(2, 1)
    found = SimpleNamespace(predictions=np.eye(2)[[0, 0, 1, 1]])
    together = SimpleNamespace(mean=mean, spread=apart)
    return model_choice.Studied(
        SMALL.tasks[0], found, np.array(truth), held, np.array(read), np.array(members), together
    )


SURE, UNSURE = [[0.9, 0.1], [0.1, 0.9], [0.2, 0.8], [0.3, 0.7]], [[0.8, 0.2], [0.3, 0.7], [0.4, 0.6], [0.6, 0.4]]


def test_figures_by_hand():
    one = made([0, 1, 1, 1], [0, 0, 1, 0], [SURE, UNSURE])
    assert (one.out_of_fold, one.held_out, one.apart) == (75, 75, 0)
    assert one.singly.tolist() == [75, 100] and one.right.tolist() == [True, True, True, False]
    assert one.spread.tolist() == [0.1, 0.1, 0.1, 0.3] and model_choice.spread_ratio(one) == pytest.approx(3)
    true = np.array([[0.9, 0.9, 0.8, 0.3], [0.8, 0.7, 0.6, 0.6]])
    assert model_choice.cost_ratio(one) == pytest.approx(np.log(true.mean(0)).mean() / np.log(true).mean())
    # 75 % of 4 against 50 % of 4: sqrt(0.625 · 0.375 · (1/4 + 1/4)) = 0.342
    assert one._replace(read=np.array([0, 1, 0, 1])).apart == pytest.approx(0.25 / 0.34233, rel=1e-4)


def test_rows_fail_where_they_should():
    def verdicts(one):
        return [row.ok for row in model_choice.rows_of(one)]

    good = made([0, 1, 1, 0], [0, 0, 1, 1], [SURE, UNSURE])
    assert verdicts(good) == [True] * 5
    assert verdicts(good._replace(read=np.array([0, 1, 1, 1]))) == [False, True, True, True, True]
    many = {"held": np.zeros(90, int), "read": np.ones(90, int)}
    assert (
        not good._replace(
            t=np.tile(good.t, 25), **many, found=SimpleNamespace(predictions=np.eye(2)[[0, 0, 1, 1] * 25])
        ).apart
        < 3
    )
    worse = SimpleNamespace(mean=1 - good.together.mean, spread=good.together.spread)
    assert verdicts(good._replace(together=worse))[2:4] == [False, False]
    assert verdicts(made([0, 1, 1, 0], [0, 0, 1, 1], [SURE, UNSURE], spread=(0.3, 0.3)))[4] is False
    assert model_choice.spread_ratio(made([0, 1, 1, 0], [0, 0, 1, 1], [UNSURE])) == float("inf")  # none is wrong
