"""All records: kind -> title -> what makes it."""

from collections.abc import Callable

from experiments.derivatives import activations, boxes, convolutions, layers, losses, networks, penalties
from experiments.derivatives.record import Part

REGISTRY: dict[str, dict[str, Callable[[], Part]]] = {
    "activations": activations.RECORDS,
    "layers": layers.RECORDS,
    "images": convolutions.RECORDS,
    "networks": networks.RECORDS,
    "losses": losses.RECORDS,
    "box losses": boxes.RECORDS,
    "penalties": penalties.RECORDS,
}
ALL = {title: make for records in REGISTRY.values() for title, make in records.items()}
