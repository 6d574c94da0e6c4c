"""A training run inside the compiled program: run, epoch, step, the weight."""
