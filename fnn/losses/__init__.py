"""All losses under one name.

A loss is `loss(outputs, targets) -> (batch,)`: one number per row, never reduced; `loss.grad` is its
derivative by hand.

- `base`: Outputs and targets as rows: shapes, dtypes and values checked, nothing broadcasts; how a loss is put
  together
- `boxes`: Boxes: the value `iou`, and losses for predicted boxes, on corners `(x1, y1, x2, y2)` with x1 <= x2 and
  y1 <= y2
- `classification`: Losses for targets that are classes: one-hot rows or probabilities, or (sparse) class numbers
- `focal`: Focal losses: cross-entropies in which what is already right counts less
- `reduction`: One number per row, and weighted sums over rows
- `regression`: Losses for targets that are numbers
- `transforms`: Losses from functions, and functions of losses: smoothed, class-weighted, summed
- `named`: Losses of networks with several outputs, and of targets some of which are missing
"""

from fnn.losses.boxes import (
    ciou_loss as ciou_loss,
    diou_loss as diou_loss,
    giou_loss as giou_loss,
    iou_loss as iou_loss,
)
from fnn.losses.classification import (
    binary_cross_entropy as binary_cross_entropy,
    cross_entropy as cross_entropy,
    hinge as hinge,
    multiclass_hinge as multiclass_hinge,
    sigmoid_cross_entropy as sigmoid_cross_entropy,
    softmax_cross_entropy as softmax_cross_entropy,
    sparse_cross_entropy as sparse_cross_entropy,
    sparse_multiclass_hinge as sparse_multiclass_hinge,
    sparse_softmax_cross_entropy as sparse_softmax_cross_entropy,
)
from fnn.losses.focal import (
    sigmoid_focal as sigmoid_focal,
    softmax_focal as softmax_focal,
    sparse_softmax_focal as sparse_softmax_focal,
)
from fnn.losses.named import joint as joint, masked as masked
from fnn.losses.regression import (
    absolute_error as absolute_error,
    asymmetric as asymmetric,
    half_squared_error as half_squared_error,
    huber as huber,
    mean_squared_error as mean_squared_error,
    quantile as quantile,
    smooth_l1 as smooth_l1,
    squared_error as squared_error,
)
from fnn.losses.transforms import (
    as_loss as as_loss,
    class_weighted as class_weighted,
    from_function as from_function,
    smoothed as smoothed,
    weighted_sum as weighted_sum,
)
