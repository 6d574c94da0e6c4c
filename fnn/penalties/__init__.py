"""All penalties under one name."""

from fnn.penalties.masks import Mask as Mask, penalised as penalised
from fnn.penalties.norms import elastic_net as elastic_net, l1 as l1, l2 as l2
from fnn.penalties.proximal import (
    check_proximal as check_proximal,
    fista as fista,
    fista_solution as fista_solution,
    proximal_l1 as proximal_l1,
    soft_threshold as soft_threshold,
)
