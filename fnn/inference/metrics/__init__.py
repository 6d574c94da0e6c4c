"""All metrics under one name.

A metric is `metric(outputs, targets) -> (batch,)`, one number per row, as `accuracy` is and any loss; its figure is the
mean over rows. Or it is a `SumMetric`, a figure of sums over rows, or a `RowMetric`, of all rows at once. All count
rows by their weights, and give the same over batches of any size.

- `inputs`: What metrics are given, checked: classes, labels of their own, columns of numbers, and the weight of each
- `accuracies`: Accuracies: one number per row, as a loss, but to be read by people
- `decisions`: What is counted of decided classes: precision, recall, F1, balanced accuracy, confusion matrix
- `means`: Metrics that are means over rows of one number per row: log loss, Brier score, top-k accuracy; of bins
  of rows, calibration
- `regression`: Metrics of numbers: root mean squared error, coefficient of determination
- `ranks`: Metrics of ranks, which need all rows at once: ROC AUC, average precision, Spearman's correlation
- `own`: Metrics of a user's own: from sums over rows, from all rows at once, of one of several outputs
- `missing`: Metrics of the rows that have a target
"""

from fnn.inference.metrics.accuracies import accuracy as accuracy, binary_accuracy as binary_accuracy
from fnn.inference.metrics.decisions import (
    balanced_accuracy as balanced_accuracy,
    confusion_matrix as confusion_matrix,
    f1 as f1,
    precision as precision,
    recall as recall,
)
from fnn.inference.metrics.means import (
    brier_score as brier_score,
    expected_calibration_error as expected_calibration_error,
    log_loss as log_loss,
    top_k_accuracy as top_k_accuracy,
)
from fnn.inference.metrics.missing import masked as masked
from fnn.inference.metrics.own import from_rows as from_rows, from_sums as from_sums, of as of
from fnn.inference.metrics.ranks import (
    average_precision as average_precision,
    roc_auc as roc_auc,
    spearman as spearman,
)
from fnn.inference.metrics.regression import r2 as r2, rmse as rmse
