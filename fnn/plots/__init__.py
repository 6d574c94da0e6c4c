"""Pictures of runs, networks and studies, by matplotlib, imported on use.

- `study_cells`: What a study says of its settings: a figure of its table for each value, or pair of values, of some
  of them
- `figure`: The figure that pictures are drawn on
- `axes`: What all pictures share: matplotlib, imported on use; axes and their scales, colours, a quiet finish
- `networks`: Pictures of what a network has learnt: classes, boundaries, hidden units, mistakes
- `runs`: Pictures of a training run, of what a network has learnt and of what a study found, by matplotlib,
  imported on use
- `studies`: Pictures of what a study found: a figure of its table against its settings, as a curve or as a heat map
"""

from fnn.plots.axes import INK as INK, LINE_COLOURS as LINE_COLOURS
from fnn.plots.networks import (
    CLASS_COLOURS as CLASS_COLOURS,
    classes as classes,
    confusion as confusion,
    decision_boundary as decision_boundary,
    hidden_space as hidden_space,
)
from fnn.plots.runs import activation as activation, curves as curves, schedules as schedules
from fnn.plots.studies import sweep as sweep
