"""Files that are damaged, or made to harm: each by its number, so that one that is found can be made again.

`python -m tests.helpers.harmful_files KIND FOLDER FIRST LAST` makes and reads these files, one after another, and
prints what came of each as a line of JSON: `[number, what, outcome, message, seconds of the processor, bytes]`. Bytes
are those by which the process grew at the most while it read, less twice the size of the file. KIND is "damaged"
(truncated or flipped), "run" or "checkpoint" (made to harm).
"""

import hashlib
import json
import os
import random
import resource
import sys
import time
import warnings
from pathlib import Path

import jax
import numpy as np
import optax

import fnn
from fnn.storage import files
from tests.helpers.problems import LABELS, LOSS, X

NET = fnn.serial(fnn.dense(4), fnn.leaky_relu(0.1), fnn.residual(fnn.dense(4), fnn.tanh), fnn.dense(2))
CODES = {"float32": "F32", "int32": "I32", "uint32": "U32", "bool": "BOOL", "complex64": "C64", "uint8": "U8"}


def fit(folder=None, net=NET):
    """The run that the files are of."""
    more = {"validation": (X[:20], LABELS[:20]), "progress": False, "batch_size": 32}
    return fnn.fit(net, LOSS, optax.adam(0.01), (X, LABELS), epochs=2, checkpoint=folder, **more)


# ---- a file with a right check sum, of any contents


def signed(header, contents=b""):
    """A file with a right check sum around any header: what only somebody who wants to can make."""
    data = len(header).to_bytes(8, "little") + header + contents
    start = 8 + len(files.MAGIC)
    return data[:start] + hashlib.sha256(data).hexdigest().encode() + data[start + 64 :]


def header(about, **tensors):
    """The header of a file with this description and these tensors."""
    text = json.dumps({"check_sum": "0" * 64, **about}, separators=(",", ":"))
    return json.dumps({"__metadata__": {"fnn": text}, **tensors}, separators=(",", ":")).encode()


def made(arrays, description):
    """A file of arrays and a description, neither of which is checked."""
    tensors, parts, at = {}, [], 0
    for name, array in arrays.items():
        parts.append(np.ascontiguousarray(array).tobytes())
        shape = list(array.shape)
        tensors[name] = {"dtype": CODES[array.dtype.name], "shape": shape, "data_offsets": [at, at + len(parts[-1])]}
        at += len(parts[-1])
    return signed(header({"raw": {}, "description": description}, **tensors), b"".join(parts))


# ---- descriptions made to harm

DEEP = json.loads("[" * 90 + "]" * 90)
ODD = [
    None, True, -1, 0, 3, 2**31, 2**63, 10**400, 1.5, 1e308, float("nan"),
    "", "x" * 100_000, "\x1b[2J\n\x00", "é" * 200,
    [], {}, [[]] * 1000, {str(i): 0 for i in range(1000)}, DEEP, [0] * 1000, ["a"], [-1], [2**40, 2**40], [1.5],
    {"array": 0, "kind": "jax"}, {"array": -1, "kind": "numpy"}, {"array": "0/../x", "kind": "number"},
    {"activation": "relu"}, {"activation": "dense"}, {"factory": "relu", "arguments": {}},
    {"factory": "dense", "arguments": {"features": 2**62}}, {"factory": "serial", "arguments": {"layers": []}},
    {"factory": "from_function", "arguments": {"function": {"activation": "tanh"}}},
]  # fmt: skip
DENSE = {"factory": "dense", "arguments": {"features": 4}}


def nested(words, times, depth):
    """A repeat in a repeat in a repeat."""
    for _ in range(depth):
        words = {"factory": "repeat", "arguments": {"layer": words, "times": times}}
    return words


def wrapped(words, factory, depth):
    """A layer in a layer in a layer."""
    for _ in range(depth):
        words = {"factory": factory, "arguments": {"layers": [words]}}
    return words


NETWORKS = [
    *({"factory": name, "arguments": {}} for name in ("relu", "tanh", "softmax", "sigmoid", "gelu", "repeat", "fit")),
    *({"factory": "softmax", "arguments": {"x": value}} for value in (3, [1, 2], {"array": 0, "kind": "jax"})),
    *(nested(DENSE, times, depth) for times in (2, 1000, 10**6, 10**9, 10**30) for depth in (1, 3, 10, 40, 90)),
    *(wrapped(DENSE, name, depth) for name in ("serial", "residual") for depth in (50, 90, 300)),
    *({"factory": "serial", "arguments": {"layers": [{"activation": "relu"}] * count}} for count in (1000, 30_000)),
    *({"factory": "dense", "arguments": {"features": value}} for value in (10**9, 2**63, 10**400, "4", [4], 4.5, None)),
    {"factory": "dense", "arguments": {"features": 4, "weight_init": {"activation": "tanh"}}},
    {"factory": "dense", "arguments": {"features": 4, "weight_init": 1e308, "bias_init": float("nan")}},
    {"factory": "serial", "arguments": {"layers": [{"array": 0, "kind": "jax"}] * 10_000}},
    {"factory": "max_pool", "arguments": {"window": [10**9, 10**9]}},
    {"factory": "conv2d", "arguments": {"features": 10**9, "size": [10**9, 10**9]}},
    {"factory": "random_crop", "arguments": {"height": 10**9, "width": 10**9}},
    {"factory": "mixed_precision", "arguments": {"net": DENSE, "dtype": "object"}},
    {"factory": "mixed_precision", "arguments": {"net": DENSE, "dtype": "S1000000000"}},
    {"factory": "rescale", "arguments": {"factor": 10**400}},
]
SHAPES = [
    [],
    [3],
    [-1],
    [2**40],
    [2**31 - 1] * 4,
    [1.5],
    ["4"],
    [True],
    [None],
    "4",
    {"4": 4},
    4,
    [[4]],
    [4] * 1000,
    [10**400],
]


def places(tree, way=()):
    """The ways to all parts of a description."""
    yield way
    for key, part in tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ():
        yield from places(part, (*way, key))


def changed(tree, way, value):
    """A copy with another value in that place."""
    if not way:
        return value
    copy = dict(tree) if isinstance(tree, dict) else list(tree)
    copy[way[0]] = changed(copy[way[0]], way[1:], value)
    return copy


def harm(rng, arrays, about):
    """What is done to a file of these arrays and this description: its name, and the file."""
    kinds = [*KINDS, *(["network", "shape"] if "net" in about else [])]
    kind = rng.choice(kinds)
    if kind == "network":
        which = rng.randrange(len(NETWORKS))
        return f"network {which}", made(arrays, about | {"net": NETWORKS[which]})
    if kind == "shape":
        shape = rng.choice(SHAPES)
        return f"in_shape {str(shape)[:20]}", made(arrays, about | {"in_shape": shape})
    return KINDS[kind](rng, arrays, about)


def odd_value(rng, arrays, about):
    way, value = rng.choice(list(places(about))), rng.choice(ODD)
    return f"{'/'.join(map(str, way))[:60]} = {str(value)[:20]}", made(arrays, changed(about, way, value))


def missing(rng, arrays, about):
    way = rng.choice([way for way in places(about) if way])
    inside = about
    for key in way[:-1]:
        inside = inside[key]
    rest = {k: v for k, v in inside.items() if k != way[-1]} if isinstance(inside, dict) else inside[: way[-1]]
    return f"no {'/'.join(map(str, way))[:60]}", made(arrays, changed(about, way[:-1], rest))


def odd_array(rng, arrays, about):
    name = rng.choice(list(arrays))
    other = rng.choice(
        [
            arrays[name].astype("complex64"),
            np.zeros(0, "float32"),
            np.zeros((1,) * 40, "int32"),
            np.full(arrays[name].shape, 2**31 - 1, "int32"),
            np.full(arrays[name].shape, -(2**31), "int32"),
            np.zeros(10**6, "float32"),
            arrays[name][..., None],
        ]
    )
    return f"{name}: {other.dtype}{other.shape}"[:80], made({**arrays, name: other}, about)


def all_complex(rng, arrays, about):
    return "complex parameters", made({n: a.astype("complex64") for n, a in arrays.items()}, about)


def fewer_arrays(rng, arrays, about):
    gone = rng.choice(list(arrays))
    return f"no array {gone}", made({name: array for name, array in arrays.items() if name != gone}, about)


def many_names(rng, arrays, about):
    count = rng.choice([1000, 20_000, 100_000])
    more = {rng.choice(["n", "net/", "params/", "\\u0000"]) + str(i): np.zeros(0, "float32") for i in range(count)}
    return f"{count} names", made(arrays | more, about)


def long_tree(rng, arrays, about):
    value = rng.choice([[0] * 100_000, [{}] * 100_000, [[]] * 500_000, {str(i): {} for i in range(100_000)}])
    way = rng.choice([way for way in places(about) if way])
    return f"{'/'.join(map(str, way))[:40]} of {len(value)}", made(arrays, changed(about, way, value))


def deep_text(rng, arrays, about):
    count = rng.choice([500, 5000, 100_000])
    text = json.dumps({"check_sum": "0" * 64, "raw": {}, "description": 0})[:-2] + "[" * count + "]" * count + "}"
    return f"{count} deep", signed(
        json.dumps(
            {"__metadata__": {"fnn": text.replace(": ", ":").replace(", ", ",")}}, separators=(",", ":")
        ).encode()
    )


def odd_tensor(rng, arrays, about):
    w = {"dtype": "F64", "shape": [1], "data_offsets": [0, 8]}
    w |= rng.choice(
        [*({"dtype": dtype} for dtype in ("BF16", "F8_E4M3", "X", 3)),
         *({"shape": shape} for shape in ([2**63], [2**40], [-1], [1] * 100, [], [2**32, 2**32])),
         *({"data_offsets": offsets} for offsets in ([8, 0], [0, 2**60], [4, 12]))]
    )  # fmt: skip
    raw = rng.choice([{}, {"w": "bfloat16"}, {"w": "object"}, {"w": 3}, {"v": "int4"}, [], {"w": "str"}])
    return f"tensor {w} {raw}"[:80], signed(header({"raw": raw, "description": about}, w=w), bytes(8))


def large(rng, arrays, about):
    name = rng.choice(list(arrays))
    return f"large {name}", made({**arrays, name: np.zeros(12 * 2**20, "float32")}, about)


def sparse(rng, arrays, about):
    return "sparse", signed(
        header(
            {"raw": {}, "description": about}, w={"dtype": "U8", "shape": [60 * 10**9], "data_offsets": [0, 60 * 10**9]}
        )
    )


KINDS = {
    function.__name__: function
    for function in (
        odd_value, missing, odd_array, all_complex, fewer_arrays, many_names, long_tree, deep_text, odd_tensor, large,
        sparse,
    )
}  # fmt: skip


# ---- reading them


def peak():
    """The most memory that this process has had since `forget_peak`."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return 1024 * int(line.split()[1])


def forget_peak():
    Path("/proc/self/clear_refs").write_text("5")
    return peak()


def outcome(read):
    """What came of reading a file: "damaged" for the one named error, "asked" where something is to be handed over."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.filterwarnings("ignore", "checkpoint: expected .* in .*, got .*, device")  # of another version
            read()
        return "read", ""
    except fnn.DamagedFile as error:
        text = str(error)
        right = len(text) <= 300 and text.isprintable() and ": expected " in text and ", got " in text
        return ("damaged" if right else "bad message"), text
    except ValueError as error:
        asked = ("Hand the network over", "Run jax.config.update", "expected the run that", "Go on with the version")
        return ("asked" if any(words in str(error) for words in asked) else "raw"), f"{type(error).__name__}: {error}"
    except BaseException as error:
        return "raw", f"{type(error).__name__}: {error}"


def main(kind, folder, first, last):
    folder = Path(folder)
    path = folder / ("checkpoint-1.safetensors" if kind == "checkpoint" else "run.fnn")
    whole = folder / f"whole-{kind}"
    run = fit(whole)
    if kind == "checkpoint":
        base = (whole / "checkpoint-0.safetensors").read_bytes()
    else:
        fnn.save(path, NET, run)
        base = path.read_bytes()
    path.write_bytes(base)
    arrays, about = files.read(path)
    fnn.load(path) if kind != "checkpoint" else fit(folder)
    size = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (2**36, size))  # a bomb ends with a MemoryError, and not with the machine
    for number in range(first, last):
        rng = random.Random(number)
        if kind == "damaged":
            what, data = damage(rng, base)
        else:
            what, data = harm(rng, arrays, about)
        for old in folder.glob("checkpoint-*"):
            old.unlink()
        path.write_bytes(data)
        if what == "sparse":
            os.truncate(path, len(data) + 60 * 10**9)
        before, begin = forget_peak(), time.process_time()
        result = outcome(lambda: fit(folder) if kind == "checkpoint" else fnn.load(path))
        seconds, grown = time.process_time() - begin, peak() - before - 2 * len(data)
        print(json.dumps([number, what, *result, round(seconds, 3), grown]), flush=True)


def damage(rng, base):
    """A file that is truncated, or of which some bits are flipped."""
    if rng.random() < 0.3:
        length = rng.randrange(len(base))
        return f"{length} bytes", base[:length]
    data = bytearray(base)
    bits = rng.sample(range(8 * len(data)), rng.choice([1, 1, 1, 2, 9]))
    for bit in bits:
        data[bit // 8] ^= 1 << bit % 8
    return f"bits {bits}", bytes(data)


if __name__ == "__main__":
    jax.config.update("jax_compilation_cache_dir", None)
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
