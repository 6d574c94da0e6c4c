"""`fit`: one run, from the host.

- `divergence`: Where a run became nan or inf: found afterwards, by doing the bad step again, so that it costs no
  other anything
- `interrupts`: Ctrl-C and SIGTERM, held back until what is under way has been kept, then handed on
- `segments`: A run in segments of about half a second, so that the host can do what only a host can between them
- `progress`: A progress bar, where somebody can see it: on a terminal, with tqdm installed
- `resume`: Checkpoints of a run under way: what they hold, whether the same run is asked for again, and when to
  write one
- `setup`: A run, traced before anything compiles, so that what does not fit raises at once
- `stream_segments`: Training on a stream: the steps of `fnn.training`, on one buffer after another; an epoch is
  still one epoch
- `output_kinds`: What raises no error and trains badly: outputs that do not match the loss, a figure that is nan in
  all epochs
- `joint`: A run in several processes: what each does alike between segments, where one process alone would do as it
  likes
- `host_loop`: `fit`: the host's loop around the fused one
"""
