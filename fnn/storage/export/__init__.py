"""Networks for programs that have no fnn: files that other runtimes read.

- `programs`: What is exported, checked: a network, its parameters, the shape of an example, a standardiser
- `steps`: A network in prediction as a list of plain steps, each with its numbers
- `onnx_functions`: A function of each element, as JAX traces it, in operations of ONNX
- `onnx_layers`: Each step as nodes of an ONNX graph
- `onnx_files`: `export_onnx`
- `stablehlo`: `export_stablehlo`
- `c_source`: Each step as statements in C
- `c_files`: `export_c`
"""
