"""Pictures of runs, networks and studies, by matplotlib, imported on use."""

from fnn.plots.axes import INK as INK, LINE_COLOURS as LINE_COLOURS
from fnn.plots.runs import (
    CLASS_COLOURS as CLASS_COLOURS,
    activation as activation,
    classes as classes,
    confusion as confusion,
    curves as curves,
    decision_boundary as decision_boundary,
    hidden_space as hidden_space,
    schedules as schedules,
)
from fnn.plots.studies import sweep as sweep
