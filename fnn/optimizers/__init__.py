"""Optimizers, and what they may ask of a training run. A run takes every optimizer of optax as it is.

- `protocol`: How an optimizer is called: with the gradient, and with the cost of the batch under way where it asks
  for it
- `evaluation`: Parameters to predict with that are not those being trained: averages of them, as the optimizer's state
  has them
- `rows`: Tables of embeddings: their rows that a batch does not have stay as they are, in momentum and decay too
- `second_order`: Levenberg-Marquardt: damped Gauss-Newton steps for a cost that is a sum of squares, on the full batch
"""

from fnn.optimizers.evaluation import average as average, evaluation_params as evaluation_params
from fnn.optimizers.rows import only_seen_rows as only_seen_rows
from fnn.optimizers.second_order import levenberg_marquardt as levenberg_marquardt
from fnn.penalties.accelerated import fista as fista, fista_solution as fista_solution
from fnn.penalties.proximal import proximal_l1 as proximal_l1
