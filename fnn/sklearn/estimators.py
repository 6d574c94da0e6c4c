"""`FnnClassifier` and `FnnRegressor`."""

from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils import Tags
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted, validate_data

from fnn import arguments
from fnn.fitting.host_loop import fit
from fnn.inference.prediction import predict
from fnn.runs import Run
from fnn.sklearn.fits import next_fit
from fnn.sklearn.plans import (
    FLOATS,
    InputScale,
    Plan,
    as_floats,
    as_rows,
    complete_plan,
    plan_rows,
    train_epoch,
    weight_decay,
)
from fnn.sklearn.sparse import SparseScale
from fnn.sklearn.targets import ClassTargets, NumberTargets
from fnn.types import ArrayLike, Layer

# Rows that are predicted at once, filled up. A product of fewer is computed in another order, and a row's last bits
# would depend on how many others it is predicted with.
LEAST_ROWS = 64


class FnnEstimator(BaseEstimator):
    """What a classifier and a regressor share."""

    network_: Layer
    run_: Run
    loss_curve_: list[float]
    _inputs: InputScale

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Train the network; with `warm_start` from where it is.

        Args:
            X: inputs, `(rows, columns)`; an array, a list, a data frame or a sparse matrix of SciPy.
            y: targets, `(rows,)`, or `(rows, columns)` for several at once.
            sample_weight: one per row, at least 0; weight k counts as k copies of the row.

        Returns:
            The estimator.
        """
        warm = arguments.flag("warm_start", self.warm_start) and hasattr(self, "run_")
        fitted = None if warm else next_fit()
        if fitted is not None and fitted.is_of(vars(self), X, y, sample_weight):
            validate_data(self, X, skip_check_array=True)  # notes how many columns there are
            plan, run = fitted.plan, fitted.run
        else:
            rows = plan_rows(self, X, y, sample_weight, before=(self._inputs, self._targets) if warm else None)
            plan = complete_plan(self, rows)
            done = fitted is not None and fitted.fits_plan(plan)
            start = (self.run_.params, self.run_.state) if warm else (None, None)
            run = fitted.run if fitted is not None and done else self._train(plan, start)
        self._keep(plan, run)
        return self

    def _use_once(self, X: ArrayLike, y: ArrayLike, classes: Any, sample_weight: Any) -> Self:
        """One epoch of these rows, from where the network is."""
        if arguments.flag("early_stopping", self.early_stopping):
            raise ValueError("early_stopping: expected False for partial_fit, got True. Call fit instead.")
        first = not hasattr(self, "run_")
        rows = plan_rows(self, X, y, sample_weight, classes, None if first else (self._inputs, self._targets))
        plan = complete_plan(self, rows)
        now = None if first else self.run_.train_state
        start = (None, None) if first else (self.run_.params, self.run_.state)
        if now is not None and int(now.best_epoch) >= 0:  # it has stopped, with an optimizer for other parameters
            now = None
        run = train_epoch(plan, now, *start) if now is None else train_epoch(plan, now)
        curve = [] if first else self.loss_curve_
        self._keep(plan, run)
        self.loss_curve_ = [*curve, *self.loss_curve_]
        self.n_iter_ = len(self.loss_curve_)
        return self

    def _train(self, plan: Plan, start: tuple[Any, Any]) -> Run:
        early = arguments.flag("early_stopping", self.early_stopping)
        stop: dict[str, Any] = {}
        if early:
            stop = {
                "validation": arguments.fraction("validation_fraction", self.validation_fraction),
                "patience": arguments.whole_number("n_iter_no_change", self.n_iter_no_change, 1),
                "min_delta": arguments.number("tol", self.tol, 0),
            }
        return fit(
            plan.net,
            plan.loss,
            plan.optimizer,
            plan.encode_rows(),
            epochs=plan.epochs,
            key=plan.seed,
            batch_size=plan.batch_size,
            settings=plan.settings,
            weights=plan.rows.weights,
            penalty=weight_decay,
            shuffle=plan.shuffle,
            params=start[0],
            state=start[1],
            progress=bool(self.verbose),
            **stop,
        )

    def _keep(self, plan: Plan, run: Run) -> None:
        self.network_, self.run_ = plan.net, run
        self._inputs, self._targets = plan.inputs, plan.targets
        self.loss_curve_ = np.asarray(run.history.loss).tolist()
        self.n_iter_ = len(self.loss_curve_)
        if run.history.validation_loss is not None:
            self.validation_loss_curve_ = np.asarray(run.history.validation_loss).tolist()

    def _outputs(self, X: ArrayLike) -> np.ndarray:
        """What the network says of these rows."""
        check_is_fitted(self)
        x = validate_data(self, X, reset=False, accept_sparse="csr", dtype=FLOATS, allow_nd=self.network is not None)
        x = as_floats(self._inputs(as_rows(x, isinstance(self._inputs, SparseScale))))
        room = np.zeros((max(0, LEAST_ROWS - len(x)), *x.shape[1:]), x.dtype)
        outputs: np.ndarray = predict(self.network_, self.run_, np.concatenate([x, room]))
        return outputs[: len(x)]

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        tags.input_tags.sparse = True
        tags.input_tags.three_d_array = self.network is not None
        return tags


def _has_probabilities(estimator: "FnnClassifier") -> bool:
    """Whether the loss says what outputs are."""
    return estimator.loss is None or getattr(estimator.loss, "outputs", None) is not None


class FnnClassifier(ClassifierMixin, FnnEstimator):
    """A network that classifies, as an estimator of scikit-learn.

    Targets are classes (numbers or words), a column of 0 and 1 per label, or several columns of classes. Inputs are
    standardised by the training rows. Columns of a sparse matrix are divided by their largest absolute value there, so
    that zeros stay zeros; the network then begins with `fnn.sparse_dense`.

    Args:
        hidden_layer_sizes: units of each hidden layer; `()` is a linear model.
        activation: between them: "relu", "tanh", "logistic", "identity", "elu", "gelu", "selu", "silu" or "softplus".
        alpha: strength of the penalty `alpha/(2 n) Σ w²` on the weights, for n rows per step.
        batch_size: rows per step; "auto" is at most 200.
        learning_rate_init: step size of Adam.
        max_iter: epochs, that is, how often every row is used.
        shuffle: a new order of the rows every epoch.
        random_state: a seed; equal seeds give equal networks.
        tol, n_iter_no_change, validation_fraction: of early stopping.
        early_stopping: hold out a share of the rows; stop after `n_iter_no_change` epochs in which their loss has not
            fallen by more than `tol`; keep the parameters that are best on them.
        warm_start: `fit` goes on from the parameters, and the standardisation, of the last fit.
        class_weight: class -> weight, or "balanced"; multiplies the sample weights.
        standardise: whether inputs are standardised.
        network: your own, from `fnn.serial` say, with an output per class (one per label); in place of
            `hidden_layer_sizes` and `activation`. Inputs may then have more axes, such as images.
        loss: your own, of `fnn.losses`.
        optimizer: your own, of optax, in place of Adam; `learning_rate_init` is then not used.
        verbose: show a bar.

    Attributes:
        classes_: the classes; a list of arrays for several columns of them.
        loss_curve_, validation_loss_curve_: mean loss of each epoch; the latter with early stopping.
        n_iter_: epochs done. `n_features_in_`, `feature_names_in_`: as everywhere in scikit-learn.
        network_, run_: the network and what `fnn.fit` returned, for `fnn.save` and `fnn.plots`.

    >>> from fnn.sklearn import FnnClassifier
    >>> x, y = [[0.0], [1.0], [2.0], [3.0]], ["low", "low", "high", "high"]
    >>> model = FnnClassifier((8,), learning_rate_init=0.1, max_iter=50, random_state=0).fit(x, y)
    >>> print(model.predict([[-1.0], [4.0]]), model.predict_proba([[4.0]]).shape)
    ['low' 'high'] (1, 2)
    """

    def __init__(
        self,
        hidden_layer_sizes: Any = (100,),
        activation: str = "relu",
        *,
        alpha: float = 1e-4,
        batch_size: Any = "auto",
        learning_rate_init: float = 1e-3,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        warm_start: bool = False,
        class_weight: Any = None,
        standardise: bool = True,
        network: Any = None,
        loss: Any = None,
        optimizer: Any = None,
        verbose: bool = False,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate_init = learning_rate_init
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.random_state = random_state
        self.tol = tol
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.warm_start = warm_start
        self.class_weight = class_weight
        self.standardise = standardise
        self.network = network
        self.loss = loss
        self.optimizer = optimizer
        self.verbose = verbose

    _targets: ClassTargets

    def partial_fit(self, X: ArrayLike, y: ArrayLike, classes: Any = None, sample_weight: Any = None) -> Self:
        """Use these rows once, from where the network is, with the optimizer as the last call left it.

        Inputs are standardised by the rows of the first call.

        Args:
            X, y, sample_weight: as for `fit`.
            classes: at the first call: all classes, where `y` may lack some.

        Returns:
            The estimator.
        """
        return self._use_once(X, y, classes, sample_weight)

    def predict(self, X: ArrayLike) -> np.ndarray:
        """The class of each row; 0 or 1 per label; a class per column of targets."""
        outputs = self._outputs(X)
        return self._targets.predict(outputs)

    @available_if(_has_probabilities)  # type: ignore[untyped-decorator]
    def predict_proba(self, X: ArrayLike) -> np.ndarray | list[np.ndarray]:
        """Probabilities, `(rows, classes)`; of labels that of each being 1; a list for several columns of targets."""
        outputs = self._outputs(X)
        return self._targets.probabilities(outputs)

    @available_if(_has_probabilities)  # type: ignore[untyped-decorator]
    def predict_log_proba(self, X: ArrayLike) -> np.ndarray | list[np.ndarray]:
        """The logarithms of the probabilities."""
        outputs = self._outputs(X)
        return self._targets.log_probabilities(outputs)

    def decision_function(self, X: ArrayLike) -> np.ndarray | list[np.ndarray]:
        """What the decision goes by: `(rows,)` for two classes, above 0 the second; else a column per class or label.

        For several columns of targets a list of these.
        """
        outputs = self._outputs(X)
        return self._targets.scores(outputs)

    def _keep(self, plan: Plan, run: Run) -> None:
        super()._keep(plan, run)
        found = plan.targets.classes  # type: ignore[union-attr]
        several = plan.targets.kind == "multioutput"  # type: ignore[union-attr]
        self.classes_ = list(found) if several else found[0]
        if plan.targets.kind == "multilabel":  # type: ignore[union-attr]
            self.classes_ = np.arange(len(found))
        self.n_outputs_ = plan.targets.size

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


class FnnRegressor(RegressorMixin, FnnEstimator):
    """A network that predicts numbers, as an estimator of scikit-learn.

    Targets are `(rows,)` or `(rows, columns)`. Inputs and targets are standardised by the training rows; predictions
    are in the units of the targets. Sparse inputs as for `FnnClassifier`.

    Args:
        hidden_layer_sizes, activation, alpha, batch_size, learning_rate_init, max_iter, shuffle, random_state, tol,
        early_stopping, validation_fraction, n_iter_no_change, warm_start, network, loss, optimizer, verbose: as for
            `FnnClassifier`; a network of your own has an output per column of targets. The loss is half the squared
            error.
        standardise: whether inputs and targets are standardised.

    Attributes:
        loss_curve_, validation_loss_curve_, n_iter_, network_, run_: as of `FnnClassifier`; losses are those of the
            standardised targets.

    >>> import numpy as np
    >>> from fnn.sklearn import FnnRegressor
    >>> x = np.linspace(0, 1, 32)[:, None]
    >>> model = FnnRegressor((16,), learning_rate_init=0.01, random_state=0).fit(x, 1000 * x[:, 0])
    >>> print(bool(abs(model.predict([[0.5]])[0] - 500) < 50))
    True
    """

    def __init__(
        self,
        hidden_layer_sizes: Any = (100,),
        activation: str = "relu",
        *,
        alpha: float = 1e-4,
        batch_size: Any = "auto",
        learning_rate_init: float = 1e-3,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        warm_start: bool = False,
        standardise: bool = True,
        network: Any = None,
        loss: Any = None,
        optimizer: Any = None,
        verbose: bool = False,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate_init = learning_rate_init
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.random_state = random_state
        self.tol = tol
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.warm_start = warm_start
        self.standardise = standardise
        self.network = network
        self.loss = loss
        self.optimizer = optimizer
        self.verbose = verbose

    _targets: NumberTargets

    def partial_fit(self, X: ArrayLike, y: ArrayLike, sample_weight: Any = None) -> Self:
        """Use these rows once, from where the network is, with the optimizer as the last call left it.

        Inputs and targets are standardised by the rows of the first call.

        Args:
            X, y, sample_weight: as for `fit`.

        Returns:
            The estimator.
        """
        return self._use_once(X, y, None, sample_weight)

    def predict(self, X: ArrayLike) -> np.ndarray:
        """The predicted targets, of the shape that targets had: `(rows,)` or `(rows, columns)`."""
        outputs = self._outputs(X)
        return self._targets.predict(outputs)
