"""As good as scikit-learn's networks: the same width, epochs, optimizer and folds, on its own data sets."""

import warnings

import jax
import numpy as np
import optax
import pytest
from sklearn import datasets
from sklearn.metrics import r2_score
from sklearn.model_selection import cross_val_score
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import fnn

GLOROT = jax.nn.initializers.glorot_uniform()  # as scikit-learn draws its weights
SEEDS = 3


def network(width, outputs):
    return fnn.serial(fnn.dense(width, weight_init=GLOROT), fnn.relu, fnn.dense(outputs, weight_init=GLOROT))


def theirs(kind, x, t, folds, width, epochs, seed):
    net = kind(
        hidden_layer_sizes=(width,), learning_rate_init=0.01, batch_size=32, max_iter=epochs,
        n_iter_no_change=epochs + 1, alpha=0.0, random_state=seed,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the optimization has not converged
        return cross_val_score(make_pipeline(StandardScaler(), net), x, t, cv=folds).mean()


def ours(x, t, loss, outputs, folds, width, epochs, seed, metrics=None):
    return fnn.cross_validate(
        network(width, outputs), loss, optax.adam(0.01), (x.astype("float32"), t), epochs=epochs, batch_size=32,
        folds=folds, standardise=True, key=seed, metrics=metrics, refit=False,
    )  # fmt: skip


CLASSES = [("iris", 40), pytest.param("wine", 40, marks=pytest.mark.slow),
           pytest.param("breast_cancer", 40, marks=pytest.mark.slow),
           pytest.param("digits", 20, marks=pytest.mark.slow)]  # fmt: skip


@pytest.mark.parametrize("name, epochs", CLASSES)
def test_as_accurate_as_scikit_learn(name, epochs):
    x, t = getattr(datasets, f"load_{name}")(return_X_y=True)
    folds = fnn.folds(len(x), 5, key=0, stratify=t)
    loss, accuracy = fnn.losses.sparse_softmax_cross_entropy, {"accuracy": fnn.accuracy}
    of_theirs, of_ours = [], []
    for seed in range(SEEDS):
        of_theirs.append(theirs(MLPClassifier, x, t, folds, 32, epochs, seed))
        found = ours(x, t, loss, t.max() + 1, folds, 32, epochs, seed, accuracy)
        of_ours.append(found.table["validation_accuracy"][0])
    print(f"{name}: fnn {100 * np.mean(of_ours):.2f} %, scikit-learn {100 * np.mean(of_theirs):.2f} %")
    assert abs(np.mean(of_ours) - np.mean(of_theirs)) < 0.01


@pytest.mark.slow
def test_explains_as_much_as_scikit_learn():
    x, t = datasets.load_diabetes(return_X_y=True)
    t = (t - t.mean()) / t.std()
    folds = fnn.folds(len(x), 5, key=0)
    of_theirs, of_ours = [], []
    for seed in range(SEEDS):
        of_theirs.append(theirs(MLPRegressor, x, t, folds, 16, 10, seed))
        target = t[:, None].astype("float32")
        found = ours(x, target, fnn.losses.half_squared_error, 1, folds, 16, 10, seed)
        of_ours.append(np.mean([r2_score(t[test], found.predictions[test, 0]) for _, test in folds]))
    print(f"diabetes: R² fnn {np.mean(of_ours):.3f}, scikit-learn {np.mean(of_theirs):.3f}")
    assert abs(np.mean(of_ours) - np.mean(of_theirs)) < 0.03
