"""Layers: `init`, `forward` and `backward` of each, with both formulas.

- `passes`: A layer's three functions, called; what one of your own raises is named, and what it returns is checked
- `combinators`: Networks from layers: one after another, repeated, with a shortcut; and layers from plain functions
- `branches`: Layers of networks that branch: several arrays by name or by place, put through layers, chosen from, and
  joined
- `adapters`: Networks of other libraries as layers; each library is imported when it is used
- `linear`: The linear layer
- `noise`: Noise that a network trains with
- `precision`: Mixed precision: a network computes in bfloat16, its parameters and everything outside it stay as
  they are
- `images`: Convolutions, pooling, larger images, and images made different each time that they are trained on
- `entries`: Which layers the inputs of a network reach as they are, for checks of these inputs on the host
- `sparse`: The linear layer of sparse rows
- `embedding`: Categories as vectors that are learned, and the check on the host that there are no others
- `normalisations`: Each channel over the rows of a batch, or each row over its features
- `complexity`: How large a network is: layers, parameters, multiply-adds and output maps, counted as source
  document 3 does
"""
