"""What a trained network says: predict, evaluate, metrics.

- `metrics`: Metrics: one number per row, as a loss, but to be read by people
- `reduction`: What is kept of the outputs of a chunk, and how that of two rows becomes one: `reduce` and `combine`
- `row_chunks`: Where the rows of a prediction come from: arrays, files, streams, as chunks of a few sizes
- `prediction`: What a trained network says about any number of rows
- `evaluation`: How good a trained network is: means over rows of metrics, which are one number per row, as losses
  are
- `posterior`: Laplace's approximation: a Gaussian around a network's parameters, and what it says of outputs and of
  the penalty
"""
