"""What a user has, as arrays on the device.

- `warnings`: Warnings that point at the line of the user's program which called fnn, from however deep inside
- `arrays`: The border to JAX: what a user holds is read as one array, cast to a run's dtype, and copied to memory
  of our own
- `reading`: What a run has read of its stream, in short: how many rows, and a check sum of them in their order
- `checks`: What a user hands over, checked on the host before anything compiles: name, expected, got, the hint
- `streams`: Data larger than memory, on the host: where rows come from in chunks of any size, and what a chunk must
  be
- `shares`: Streams of which each process reads only its own rows: batches that all processes make together
- `buffers`: Chunks of any size become buffers of one size: every row once an epoch, shuffled, read ahead by a
  thread
- `scaling`: Standardised inputs, on the host, before training
- `splits`: Splits of the rows, on the host: `folds` of a cross-validation, and `hold_out`
- `loading`: From arrays, frames and streams to rows on the device
- `tables`: Tables with numbers, categories, dates and gaps: as arrays for a network, the same way for any frame
"""
