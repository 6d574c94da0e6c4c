"""A run: its trainer, its state, its history, what is left of it in the end, and how a notebook shows it.

- `markup`: Tables and curves as HTML, for a notebook
- `records`: A run: its trainer, its state, its history, and what is left of it
"""

from fnn.runs.records import (
    History as History,
    Progress as Progress,
    Run as Run,
    RunningSums as RunningSums,
    Trainer as Trainer,
    TrainingDiverged as TrainingDiverged,
    TrainingInterrupted as TrainingInterrupted,
    TrainState as TrainState,
    check_distinct as check_distinct,
    history_columns as history_columns,
)
