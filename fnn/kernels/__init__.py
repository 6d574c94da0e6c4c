"""Fast implementations of what a loop computes, and its random numbers.

- `compiler_options`: Options for the compiler: for what runs once, and for small networks
- `operations`: Operations on arrays of one dtype by JAX's primitives, for what is traced in every run
- `loops`: How the loop of a whole run is compiled on a CPU: a small one into one function, large ones member after
  member
- `matmul`: The three matrix products of a dense layer, each computed in the way that is fast for its size and
  platform
- `sparse`: The products of a linear layer with sparse rows: place by place, so that nothing is as large as all
  pairs
- `memory`: Memory that XLA takes as it is on a CPU, without a second copy: it begins at a multiple of 64
- `random`: A hash of whole numbers: what randomness inside a compiled loop is made of, where millions of numbers
  are drawn
- `windows`: Windows that slide over an axis: how many there are, the numbers at each place in them, and the way
  back
- `convolution`: The three products of a convolution, each computed in the way that is fast on the platform: chosen
  here alone
- `effort`: How hard to compile a run on a CPU: as hard as its work is worth
"""
