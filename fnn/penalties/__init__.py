"""All penalties under one name.

- `masks`: Which parameters are weights, those that a penalty makes small: not biases, nor the scale and offset of a
  normalisation, nor the slopes of a prelu
- `norms`: Penalties: a number added to the cost for the size of the weights, with its derivative by hand
- `centring`: Coordinates in which the cost of a linear model bends much the same in all directions: inputs centred,
  bias scaled
- `step_size`: The step size of a descent without a learning rate: 1 over the largest curvature of the cost, which
  it measures
- `moves`: Weights that become 0 and cease to be 0, step by step, as they do where gradients of mini-batches differ
- `proximal`: Exact zeros: proximal gradient descent (ISTA), as an optax transformation
- `accelerated`: Exact zeros by accelerated proximal gradient descent (FISTA), as an optax transformation
"""

from fnn.penalties.accelerated import fista as fista, fista_solution as fista_solution
from fnn.penalties.masks import Mask as Mask, weight_mask as weight_mask
from fnn.penalties.norms import elastic_net as elastic_net, l1 as l1, l2 as l2
from fnn.penalties.proximal import (
    check_proximal as check_proximal,
    proximal_l1 as proximal_l1,
    soft_threshold as soft_threshold,
)
