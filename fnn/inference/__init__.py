"""What a trained network says: predict, evaluate, metrics.

- `reduction`: What is kept of the outputs of a chunk, and how that of two rows becomes one: `reduce` and `combine`
- `row_chunks`: Where the rows of a prediction come from: arrays, files, streams, as chunks of a few sizes
- `prediction`: What a trained network says about any number of rows
- `metrics`: All metrics under one name
- `totals`: What is added up, or kept, of metrics over the chunks of an evaluation: in float64, on the host
- `evaluation`: How good a trained network is: means over rows of losses and metrics, and figures of sums or of all
  rows
- `posterior`: Laplace's approximation: a Gaussian around a network's parameters, and what it says of outputs and of
  the penalty
"""
