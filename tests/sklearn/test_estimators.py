"""Estimators among scikit-learn's own: its checks, pipelines, searches, calibration, copies in another process."""

import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

pytest.importorskip("sklearn")

import joblib
import optax
import pandas
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.inspection import permutation_importance
from sklearn.model_selection import GridSearchCV, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from sklearn.utils.estimator_checks import check_estimator

import fnn
from fnn.sklearn import FnnClassifier, FnnRegressor, FnnSearchCV

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 3))
WORDS = np.where(X[:, 0] + 0.1 * X[:, 1] > 0, "yes", "no")
SMALL = {"hidden_layer_sizes": (8,), "learning_rate_init": 0.05, "max_iter": 20, "random_state": 0}
MODEL = FnnClassifier(**SMALL)
SEARCHED = {"alpha": [1e-4, 1e-2]}


@pytest.fixture(params=[False, True], ids=["float32", "float64"])
def x64(request):
    with jax.enable_x64(request.param):
        yield


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # what they provoke on purpose
@pytest.mark.parametrize(
    "estimator",
    [
        FnnClassifier(max_iter=100),
        FnnRegressor(max_iter=100),
        FnnSearchCV(FnnClassifier(max_iter=60, random_state=0), SEARCHED, cv=2),
        FnnSearchCV(FnnRegressor(max_iter=60, random_state=0), SEARCHED, cv=2),
    ],
    ids=["classifier", "regressor", "search of classifiers", "search of regressors"],
)
def test_all_checks_of_scikit_learn_pass(estimator, x64):
    found = check_estimator(estimator, on_fail=None, on_skip=None)
    failed = {
        check["check_name"]: check["exception"] for check in found if check["status"] not in ("passed", "skipped")
    }
    assert failed == {} and sum(check["status"] == "passed" for check in found) > 40


def test_a_row_of_weight_k_is_k_copies_to_the_bit():
    weights = RNG.integers(0, 4, len(X)).astype(float)
    order = RNG.permutation(len(X))
    weighted = clone(MODEL).fit(X[order], WORDS[order], weights[order])
    copies = np.repeat(np.arange(len(X)), weights.astype(int))
    repeated = clone(MODEL).fit(X[copies], WORDS[copies])
    assert np.array_equal(weighted.predict_proba(X), repeated.predict_proba(X))
    assert not np.array_equal(weighted.predict_proba(X), clone(MODEL).fit(X, WORDS).predict_proba(X))


def test_a_row_is_predicted_to_the_same_bits_in_any_company():
    x = RNG.normal(size=(300, 30))  # with fewer columns a product of one row has the same bits anyway
    t = 1e3 * x[:, 0] + 5e3
    model = FnnRegressor(**SMALL | {"hidden_layer_sizes": (100,)}).fit(x, t)
    whole = model.predict(x)
    assert all(np.array_equal(model.predict(x[i : i + 1]), whole[i : i + 1]) for i in range(20))
    assert whole.dtype == np.float64 and model.score(x, t) > 0.9


def test_in_a_pipeline_with_a_column_transformer_and_in_a_grid_search():
    frame = pandas.DataFrame({"size": X[:, 0], "colour": np.where(X[:, 1] > 0, "red", "blue")})
    columns = ColumnTransformer([("words", OneHotEncoder(), ["colour"])], remainder="passthrough")
    pipeline = make_pipeline(columns, MODEL)
    search = GridSearchCV(pipeline, {"fnnclassifier__alpha": [1e-4, 1e-3]}, n_jobs=2, cv=2).fit(frame, WORDS)
    assert search.best_score_ > 0.8 and set(search.predict(frame)) == {"yes", "no"}
    assert (cross_val_predict(pipeline, frame, WORDS, cv=2) == WORDS).mean() > 0.8


def test_calibration_and_importance():
    calibrated = CalibratedClassifierCV(MODEL, cv=2).fit(X, WORDS)
    assert np.allclose(calibrated.predict_proba(X).sum(1), 1)
    importance = permutation_importance(clone(MODEL).fit(X, WORDS), X, WORDS, random_state=0).importances_mean
    assert importance.argmax() == 0


def test_frames_with_columns_in_another_order_are_refused():
    frame = pandas.DataFrame(X, columns=["a", "b", "c"])
    model = clone(MODEL).fit(frame, WORDS)
    assert model.feature_names_in_.tolist() == ["a", "b", "c"]
    with pytest.raises(ValueError, match="must be in the same order"):
        model.predict(frame[["b", "a", "c"]])


def test_a_dump_predicts_the_same_in_another_process(tmp_path):
    model = clone(MODEL).fit(X, WORDS)
    joblib.dump((model, X, model.predict_proba(X)), tmp_path / "model")
    code = (
        "import sys, joblib, numpy as np\n"
        "model, x, expected = joblib.load(sys.argv[1])\n"
        "print(np.array_equal(model.predict_proba(x), expected), model.predict(x[:1])[0])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "model")],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    assert done.stdout.split() == ["True", WORDS[0]]


def test_several_targets_and_labels():
    labels = np.stack([X[:, 0] > 0, X[:, 1] > 0], 1).astype(int)
    many = clone(MODEL).fit(X, labels)
    assert np.array_equal(many.predict(X), (many.decision_function(X) > 0).astype(int))
    assert many.predict_proba(X).shape == (60, 2) and many.score(X, labels) > 0.8

    columns = np.stack([WORDS, np.digitize(X[:, 1], [-0.5, 0.5]).astype(str)], 1).astype(object)
    both = clone(MODEL).fit(X, columns)
    assert [p.shape for p in both.predict_proba(X)] == [(60, 2), (60, 3)]
    assert (both.predict(X) == columns).mean() > 0.8 and [len(c) for c in both.classes_] == [2, 3]

    numbers = np.stack([100 + X[:, 0], 1e-3 * X[:, 1]], 1)
    assert FnnRegressor(**SMALL).fit(X, numbers).score(X, numbers) > 0.8


@pytest.mark.parametrize(
    "loss",
    [
        fnn.losses.cross_entropy,
        pytest.param(fnn.losses.hinge, marks=pytest.mark.slow),
        pytest.param(fnn.losses.softmax_focal(), marks=pytest.mark.slow),
        fnn.losses.sigmoid_cross_entropy,
    ],
)
def test_losses_and_networks_of_ones_own(loss):
    size = 1 if loss.targets == "binary" else 2
    ends = [fnn.softmax] if loss.outputs == "probabilities" else []
    net = fnn.serial(fnn.dense(8), fnn.gelu, fnn.dense(size), *ends)
    model = FnnClassifier(network=net, loss=loss, optimizer=optax.adam(0.05), max_iter=20, random_state=0).fit(X, WORDS)
    assert model.score(X, WORDS) > 0.9 and model.decision_function(X).shape == (60,)
    assert np.array_equal(model.classes_[(model.decision_function(X) > 0).astype(int)], model.predict(X))
    assert hasattr(model, "predict_proba") == (loss.outputs is not None)


def test_images_need_a_network_that_takes_them():
    images = RNG.normal(size=(20, 4, 4, 1))
    t = images.mean((1, 2, 3)) > 0
    model = FnnClassifier(network=fnn.serial(fnn.flatten(), fnn.dense(2)), max_iter=5, random_state=0).fit(images, t)
    assert model.predict(images).shape == (20,)
    with pytest.raises(ValueError, match="dim 4"):
        FnnClassifier().fit(images, t)


def test_partial_fit_goes_on_with_its_optimizer():
    model = clone(MODEL)
    for _ in range(3):
        model.partial_fit(X[:30], WORDS[:30], classes=["maybe", "no", "yes"])
    assert model.classes_.tolist() == ["maybe", "no", "yes"] and model.n_iter_ == 3
    assert model.loss_curve_[2] < model.loss_curve_[0]
    assert int(model.run_.train_state.epoch) == 3  # a state that goes on, not three that begin
    with pytest.raises(ValueError, match="expected classes of"):
        model.partial_fit(X[:2], ["no", "never"])
    with pytest.raises(ValueError, match="early_stopping: expected False for partial_fit"):
        clone(MODEL).set_params(early_stopping=True).partial_fit(X, WORDS)
    wholly = clone(MODEL).set_params(max_iter=3).fit(X, WORDS)
    pieces = clone(MODEL)
    for _ in range(3):
        pieces.partial_fit(X, WORDS)
    assert np.allclose(wholly.predict_proba(X), pieces.predict_proba(X), atol=1e-5)


def test_warm_start_goes_on_and_early_stopping_stops():
    model = clone(MODEL).set_params(warm_start=True).fit(X, WORDS)
    first = model.loss_curve_
    assert model.fit(X, WORDS).loss_curve_[0] < first[0] / 2
    early = clone(MODEL).set_params(early_stopping=True, n_iter_no_change=2, max_iter=500).fit(X, WORDS)
    assert early.n_iter_ < 500 and len(early.validation_loss_curve_) == early.n_iter_


def test_class_weight_multiplies_the_sample_weights():
    weights = np.where(WORDS == "yes", 3.0, 1.0)
    one = clone(MODEL).set_params(class_weight={"yes": 3.0}).fit(X, WORDS)
    assert np.array_equal(one.predict_proba(X), clone(MODEL).fit(X, WORDS, weights).predict_proba(X))


MISTAKES = {
    "activation": ({"activation": "reul"}, "activation: expected one of 'identity'"),
    "sizes": ({"hidden_layer_sizes": (8.0,)}, "hidden_layer_sizes: expected a whole number"),
    "alpha": ({"alpha": -1}, "alpha: expected"),
    "network": ({"network": 3}, "network: expected"),
    "batch": ({"batch_size": "all"}, "batch_size: expected a whole number"),
    "loss": ({"loss": fnn.losses.hinge}, "loss: expected one of 3 classes, got hinge"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_named(name):
    parameters, text = MISTAKES[name]
    with pytest.raises((TypeError, ValueError), match=text):
        FnnClassifier(**parameters).fit(X, np.digitize(X[:, 1], [-0.5, 0.5]))
