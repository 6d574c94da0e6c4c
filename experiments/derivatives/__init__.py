"""The registry: one record a public part with a derivative. What is proven of it, and how, is in `examine`.

`record` says what a record is; `activations`, `layers`, `networks`, `losses`, `boxes`, `penalties` hold them;
`regimes` the numbers that they are looked at with; `plant` the wrong rules that must be found. `RECORDS` in each module
is title -> function that makes the record (in float64, so with x64 enabled); `registry` has them all.
"""
