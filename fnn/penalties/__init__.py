"""All penalties under one name.

- `masks`: Which parameters are weights, those that a penalty makes small: not biases, nor the scale and offset of a
  normalisation, nor the slopes of a prelu
- `norms`: Penalties: a number added to the cost for the size of the weights, with its derivative by hand
- `proximal`: Exact zeros: proximal gradient descent (ISTA) and its accelerated form (FISTA), as optax
  transformations
"""

from fnn.penalties.masks import Mask as Mask, weight_mask as weight_mask
from fnn.penalties.norms import elastic_net as elastic_net, l1 as l1, l2 as l2
from fnn.penalties.proximal import (
    check_proximal as check_proximal,
    fista as fista,
    fista_solution as fista_solution,
    proximal_l1 as proximal_l1,
    soft_threshold as soft_threshold,
)
