"""A training run inside the compiled program: run, epoch, step, the weight.

- `batches`: How a table of rows becomes batches inside a compiled program: every row exactly once, the last batch
  masked
- `layout`: How a run lies on several devices: the rows of a batch are split over them, parameters are on each or split
  too
- `config`: What a run is made of: the network, the loss, the optimizer and the others, once the settings are known
- `cost`: What an optimizer may ask of the cost of the batch under way
- `ranges`: Settings out of their range, found on the host before anything compiles
- `state`: The state of a training run: how it begins, and what every part of the loop does with such trees
- `statistics`: Statistics of layers (batch norm) for other parameters than those trained: what they are on the
  training rows
- `epoch_end`: The end of an epoch: means over its rows, validation, the best parameters so far, patience
- `fused_loop`: The fused loop: a whole training run as one pure function, to be compiled by `jit` and multiplied by
  `vmap`
"""
