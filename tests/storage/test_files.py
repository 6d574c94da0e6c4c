"""Files: every dtype to the same bits; every damage found; whole or not there; every message. All on real files."""

import errno
import os
import pickle
import random
import stat
import sys
import tracemalloc
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, strategies as st
from safetensors import numpy as safetensors

import fnn
from fnn.arguments import trees
from fnn.storage import files
from tests.helpers.compare import has_hint
from tests.helpers.harmful_files import header, signed

DTYPES = files._dtypes()
SMALL = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones(3, DTYPES["bfloat16"]), "done": np.array(True)}


def same(a, b):
    assert a.keys() == b.keys()
    for name, array in b.items():
        assert (a[name].dtype, a[name].shape) == (array.dtype, array.shape), name
        assert np.asarray(a[name]).tobytes() == np.asarray(array).tobytes(), name


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "some.safetensors")


def damaged(path):
    """Whether reading it finds so, and says it as it should."""
    try:
        files.read(path)
    except files.DamagedFile as error:
        assert str(error).startswith(f"{path}: expected ") and has_hint(str(error))
        return True
    return False


# ---- what is written comes back


@st.composite
def arrays(draw, dtypes=tuple(DTYPES)):
    dtype = DTYPES[draw(st.sampled_from(dtypes))]
    shape = tuple(draw(st.lists(st.integers(0, 3), max_size=3)))
    size = int(np.prod(shape)) * dtype.itemsize
    content = np.frombuffer(draw(st.binary(min_size=size, max_size=size)), np.uint8)
    narrow = {"bool": 1, "int1": 1, "uint1": 1, "int2": 3, "uint2": 3, "int4": 15, "uint4": 15}.get(dtype.name, 255)
    return (content & narrow).view(dtype).reshape(shape)


def nested(leaves):
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.dictionaries(st.text(max_size=3), inner, max_size=3), st.lists(inner, max_size=3).map(tuple)
        ),
        max_leaves=6,
    )


@given(tree=nested(arrays()), text=st.text())
def test_any_tree_of_any_dtype_comes_back_to_the_same_bits(tmp_path_factory, tree, text):
    path = tmp_path_factory.getbasetemp() / "any.safetensors"
    files.write(path, trees.flatten_named(tree), {"text": [text]})
    read, description = files.read(path)
    assert description == {"text": [text]}
    same(read, trees.flatten_named(tree))


@pytest.mark.parametrize("shape", [(), (0, 3), (2, 0), (2, 3)])
def test_every_dtype_and_shape(path, shape):
    assert {"bfloat16", "float8_e4m3fn", "float8_e5m2", "int4", "uint32", "bool", "complex128"} <= set(DTYPES)
    written = {name: np.ones(shape, dtype) for name, dtype in DTYPES.items()}
    files.write(path, written)
    read, description = files.read(path)
    assert description is None
    same(read, written)


def test_arrays_of_any_layout_and_of_jax(path):
    x = np.arange(12.0).reshape(3, 4)
    frozen = x.copy()
    frozen.flags.writeable = False
    given_ = {"T": x.T, "steps": x[::2, ::-1], "big": x.astype(">f8"), "big complex": (x * 1j).astype(">c16")}
    files.write(path, given_ | {"frozen": frozen, "jax": jnp.ones(3, jnp.bfloat16), "key": jnp.array([1, 2], "uint32")})
    read, _ = files.read(path)
    for name, array in given_.items():
        np.testing.assert_array_equal(read[name], array)
        assert read[name].dtype.isnative
    same({"frozen": read["frozen"]}, {"frozen": x})
    assert read["jax"].dtype == jnp.bfloat16 and read["key"].tolist() == [1, 2]


def test_nothing_at_all_and_numbers_that_are_none(path):
    files.write(path, {}, {"patience": float("inf"), "of": [1, None, True, "ü", -0.0]})
    read, description = files.read(path)
    assert read == {} and description == {"patience": float("inf"), "of": [1, None, True, "ü", -0.0]}
    assert str(description["of"][-1]) == "-0.0"


def test_other_programs_can_read_it(path):
    files.write(path, SMALL)
    same({"w": safetensors.load_file(path)["w"]}, {"w": SMALL["w"]})


def test_the_same_contents_are_the_same_file(path):
    contents = []
    for _ in range(5):
        files.write(path, SMALL, {"a": 1, "b": 2})
        contents.append(Path(path).read_bytes())
    assert len(set(contents)) == 1


# ---- every damage is found


@pytest.fixture
def small(path):
    files.write(path, SMALL, {"seed": 7})
    assert os.path.getsize(path) < 1000
    return path


@pytest.fixture
def large(path):
    files.write(path, {"w": np.random.default_rng(0).normal(size=(200, 100))}, {"seed": 7})
    assert os.path.getsize(path) > 160_000
    return path


def flipped(path, bit):
    """Read it with that bit flipped, and put the bit back."""
    place, mask = bit // 8, 1 << bit % 8
    with open(path, "r+b", buffering=0) as file:
        before = os.pread(file.fileno(), 1, place)
        os.pwrite(file.fileno(), bytes([before[0] ^ mask]), place)
        found = damaged(path)
        os.pwrite(file.fileno(), before, place)
    return found


def test_every_single_bit_flipped_is_found(small):
    missed = [bit for bit in range(8 * os.path.getsize(small)) if not flipped(small, bit)]
    assert missed == [] and not damaged(small)


def test_a_thousand_random_bits_flipped_in_a_larger_file_are_found(large):
    bits = random.Random(0).sample(range(8 * os.path.getsize(large)), 1000)
    assert all(flipped(large, bit) for bit in bits) and not damaged(large)


def test_truncation_at_every_byte_is_found(small):
    whole = Path(small).read_bytes()
    for length in range(len(whole) - 1, -1, -1):
        os.truncate(small, length)
        assert damaged(small), length
    for more in (b"\0", b" ", whole):
        with open(small, "wb") as file:
            file.write(whole + more)
        assert damaged(small)


def test_truncation_at_every_kib_of_a_larger_file_is_found(large):
    for length in range(os.path.getsize(large) // 1024 * 1024, -1, -1024):
        os.truncate(large, length)
        assert damaged(large), length


def message(path):
    with pytest.raises(files.DamagedFile) as caught:
        files.read(path)
    return str(caught.value)


def test_a_damaged_file_is_named(small):
    with open(small, "r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\7")
    size = os.path.getsize(small)
    got = message(small)
    assert got.startswith(f"{small}: expected the check sum '")
    assert got.endswith(
        f"': its {size} bytes are not those that were written. "
        "Check the path, restore the file from a copy, or save it again."
    )


class Bomb:
    """Unpickled, it would leave a mark."""

    def __reduce__(self):
        return os.mkdir, ("exploded",)


@pytest.mark.parametrize(
    "content, got",
    [
        (b"", "an empty one"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), r"108 bytes that start with b'\x89PNG\r\n\x1a\n\x00\x00\x00\x00\x00\x00"),
        (pickle.dumps(Bomb()), "bytes that start with b'"),
        (safetensors.save({"w": np.ones(30)}, {"by": "another"}), "bytes that start with b'`\\x00\\x00\\x00"),
        ((2**62).to_bytes(8, "little") + bytes(200), "208 bytes that start with b'"),
        (b"{}", "2 bytes that start with b'{}'"),
    ],
    ids=["empty", "png", "pickle", "safetensors", "huge header", "short"],
)
def test_foreign_files_are_named(path, tmp_path, monkeypatch, content, got):
    monkeypatch.chdir(tmp_path)
    with open(path, "wb") as file:
        file.write(content)
    text = message(path)
    assert text.startswith(f"{path}: expected a file written by fnn, got ") and got in text
    assert text.endswith(". Check the path, restore the file from a copy, or save it again.")
    assert os.listdir(tmp_path) == [os.path.basename(path)]


def test_a_folder_and_a_missing_file_are_named(tmp_path):
    assert message(tmp_path).startswith(f"{tmp_path}: expected a file written by fnn, got a folder or a device. ")
    with pytest.raises(FileNotFoundError) as caught:
        files.read(tmp_path / "none")
    assert str(caught.value) == (
        f"[Errno 2] {tmp_path}/none: expected a file, got 'No such file or directory'. Check the path."
    )


EMPTY = {"dtype": "F64", "shape": [0], "data_offsets": [0, 0]}


@pytest.mark.parametrize(
    "content",
    [
        signed(header({"raw": {}}, w={"dtype": "F64", "shape": [2**40], "data_offsets": [0, 2**43]})),
        signed(header({"raw": {}}, w={"dtype": "F64", "shape": [2**40], "data_offsets": [0, 8]}), bytes(8)),
        signed(header({"raw": {"w": "object"}}, w={"dtype": "U8", "shape": [8], "data_offsets": [0, 8]}), bytes(8)),
        signed(header({"raw": {}})),  # no description
        signed(header({"raw": [], "description": 0})),
        signed(files.MAGIC + b"0" * 64 + b'\\"}"}}' + b"[" * 100_000),
        signed(header({"raw": {}, "description": 0})[:-1] + b"!"),
        (2**62).to_bytes(8, "little") + files.MAGIC + b"0" * 64,  # the check sum is wrong too
        signed(header({"raw": {}, "description": 0}, **dict.fromkeys(map(str, range(60_000)), EMPTY))),
        signed(header({"raw": {}, "description": [{}] * 140_000})),
    ],
    ids=[
        "beyond the end",
        "shape",
        "object",
        "no description",
        "raw",
        "deep",
        "no json",
        "huge header",
        "names",
        "many",
    ],
)
def test_contents_made_to_harm_are_refused_and_allocate_nothing(path, content):
    with open(path, "wb") as file:
        file.write(content)
    files._dtypes()
    tracemalloc.start()
    try:
        wanted = "a header of at most 8388608 bytes" if content[7] else "contents that belong together"
        assert message(path).startswith(f"{path}: expected {wanted}")
        assert tracemalloc.get_traced_memory()[1] < 1_000_000 + 10 * len(content)
    finally:
        tracemalloc.stop()


def test_a_signed_file_of_the_right_form_is_read(path):
    """Else the test above would show nothing."""
    w = {"dtype": "F64", "shape": [1], "data_offsets": [0, 8]}
    with open(path, "wb") as file:
        file.write(signed(header({"raw": {}, "description": 5}, w=w), bytes(8)))
    assert files.read(path) == ({"w": np.zeros(1)}, 5)


def test_of_a_large_foreign_file_only_the_beginning_is_read(path):
    with open(path, "wb") as file:
        file.truncate(2**40)
    tracemalloc.start()
    try:
        assert damaged(path)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_what_could_not_be_read_again_is_not_written(path, monkeypatch):
    monkeypatch.setattr(files, "MOST_ARRAYS", 2)
    with pytest.raises(ValueError, match=r"arrays: expected at most 2, got 3\. Put layers of one kind into a repeat"):
        files.write(path, dict.fromkeys("abc", np.zeros(1)))
    with pytest.raises(ValueError, match="description: expected at most 4 MiB of text, got 5000"):
        files.write(path, {}, "x" * 5_000_000)
    monkeypatch.setattr(files, "MOST_HEADER", 300)
    with pytest.raises(ValueError, match=r"arrays: expected names of at most 300 bytes together, got more\. Shorten"):
        files.write(path, {"a" * 300: np.zeros(1)})
    assert not os.path.exists(path)


def test_a_message_is_one_printable_line_of_at_most_300_characters(tmp_path):
    folder = tmp_path / ("long " * 40) / ("\n\x1b[2J" * 20)
    folder.mkdir(parents=True)
    (folder / "net.fnn").write_bytes(b"\x00" * 500)
    text = message(folder / "net.fnn")
    assert len(text) <= 300 and text.isprintable() and text.startswith("…") and "/net.fnn: expected a file" in text
    assert text.endswith(f". {files.HINT}")


# ---- whole or not there


def test_flushed_then_renamed_then_the_folder_flushed(path, monkeypatch):
    done = []

    def recorded(name, function):
        def call(*args):
            kind = stat.S_ISDIR(os.fstat(args[0]).st_mode) if name == "fsync" else args
            done.append((name, kind))
            return function(*args)

        return call

    for name in ("fsync", "replace"):
        monkeypatch.setattr(os, name, recorded(name, getattr(os, name)))
    files.write(path, SMALL)
    (_, first), (name, (source, target)), (_, last) = done
    assert (first, name, target, last) == (False, "replace", path, True)
    assert os.path.dirname(source) == os.path.dirname(path)  # a rename between file systems would be a copy


@pytest.mark.parametrize("place", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_what_was_there_stays_and_no_temporary_is_left(path, monkeypatch, place, error):
    files.write(path, SMALL, 1)

    def fail(*args):
        assert len(os.listdir(os.path.dirname(path))) == 2, "no temporary to be left"
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(os, place, fail)
        with pytest.raises(type(error)) as caught:
            files.write(path, {}, 2)
    if isinstance(error, OSError):
        assert caught.value.errno == errno.ENOSPC
        assert str(caught.value) == (
            f"[Errno 28] {path}: expected to write the file, got 'No space left on device'; "
            "what was there before is as it was. Free space, or choose a folder that exists and may be written to."
        )
    assert files.read(path)[1] == 1
    assert os.listdir(os.path.dirname(path)) == [os.path.basename(path)]


def test_a_file_system_that_cannot_flush_folders_is_no_error(path, monkeypatch):
    plain = os.fsync

    def only_files(handle):
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        plain(handle)

    monkeypatch.setattr(os, "fsync", only_files)
    files.write(path, SMALL)
    assert not damaged(path)


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="none/a: expected to write the file, got 'No such file or directory'"):
        files.write(tmp_path / "none" / "a", SMALL)


def test_a_folder_in_the_place_of_the_file(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    with pytest.raises(IsADirectoryError, match="a: expected to write the file, got 'Is a directory'"):
        files.write(tmp_path / "a", SMALL)
    assert os.listdir(tmp_path) == ["a"]


# ---- what cannot be written


@pytest.mark.parametrize("value", [None, "text", [1, "a"], object(), np.array(0, "datetime64[s]"), np.longdouble(1)])
def test_what_is_no_array_of_numbers_is_refused(path, value):
    array = np.asarray(value)
    with pytest.raises(TypeError) as caught:
        files.write(path, {"a/b": value})
    assert str(caught.value) == (
        f"a/b: expected an array of numbers, got {array.dtype} {array.shape}. Convert or rename it."
    )
    assert not os.path.exists(path)


def test_the_formats_own_word_is_refused(path):
    with pytest.raises(TypeError, match=r"^__metadata__: expected .* Convert or rename it\.$"):
        files.write(path, {"__metadata__": np.ones(1)})


def test_a_description_that_json_cannot_hold_is_refused(path):
    with pytest.raises(TypeError) as caught:
        files.write(path, {}, {"f": print})
    assert str(caught.value) == (
        "description: expected what JSON holds, got Object of type builtin_function_or_method is not JSON "
        "serializable. Use dicts, lists, text and numbers."
    )


@pytest.mark.parametrize("call", [lambda path: files.write(path, SMALL), files.read])
def test_without_safetensors_the_command_is_named(small, monkeypatch, call):
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    with pytest.raises(ImportError) as caught:
        call(small)
    assert str(caught.value) == 'files: safetensors is not installed. Run: pip install "fnn[files]"'


# ---- trees


def test_names_are_the_ways_to_the_leaves():
    tree = {"a/b": (1.0, {"~": 2.0}), "a": {"b": 3.0}, "": (), "~1": 4.0}
    names = {name: float(leaf) for name, leaf in trees.flatten_named(jax.tree.map(np.asarray, tree)).items()}
    assert names == {"a~1b/0": 1.0, "a~1b/1/~0": 2.0, "a/b": 3.0, "~01": 4.0}
    assert list(trees.flatten_named(np.ones(1))) == [""]
    assert list(trees.flatten_named((np.ones(1),), "params")) == ["params/0"]


@pytest.mark.parametrize(
    "leaf, got", [(1.0, "float"), ("text", "str"), (jax.eval_shape(lambda: jax.random.key(0)), "key<fry>")]
)
def test_leaves_that_are_no_raw_arrays_raise(leaf, got):
    with pytest.raises(TypeError) as caught:
        trees.flatten_named({"a": (leaf,)})
    assert str(caught.value) == (
        f"a/0: expected an array, got {got}. Use jnp.asarray, and jax.random.key_data for a key."
    )


def test_filled_gives_the_tree_back():
    like = {"w": jax.ShapeDtypeStruct((2,), "float32"), "n": (np.int32(0), ())}
    tree = trees.unflatten_named(like, {"n/0": np.int32(7), "w": np.float32([1, 2])})
    assert jax.tree.structure(tree) == jax.tree.structure(like) and int(tree["n"][0]) == 7
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(tree)) and tree["w"].tolist() == [1, 2]


def test_every_leaf_that_differs_is_listed():
    like = {name: np.zeros(2, np.float32) for name in ("missing", "shape", "type", "width", "right")}
    got = dict(like, shape=np.zeros((2, 1), np.float32), type=np.zeros(2, np.int32), width=np.zeros(2, np.float16))
    del got["missing"]
    with pytest.raises(fnn.ShapeError) as caught:
        trees.unflatten_named(like, got | {"surplus": np.array(True)}, "here")
    assert str(caught.value) == (
        "here: expected those of this program, got 5 that differ:\n"
        "  missing: expected float32(2,), got none\n"
        "  shape: expected float32(2,), got float32(2, 1)\n"
        "  type: expected float32(2,), got int32(2,)\n"
        "  width: expected float32(2,), got float16(2,)\n"
        "  surplus: expected none, got bool()\n"
        "Use the program that wrote them."
    )


def test_of_any_width_where_that_is_asked():
    kinds = [("float16", "float32"), ("bfloat16", "float64"), ("int8", "int32"), ("uint8", "uint32"), ("bool", "bool")]
    for a, b in kinds:
        one, other = {"a": np.zeros(1, DTYPES[a])}, {"a": np.zeros(1, DTYPES[b])}
        trees.check_same_leaves("here", "these", one, other, "Do.", width=False)
        for c, _ in kinds[2:]:
            if c != a:
                with pytest.raises(fnn.ShapeError):
                    trees.check_same_leaves("here", "these", one, {"a": np.zeros(1, DTYPES[c])}, "Do.", width=False)


@pytest.mark.parametrize("dtype", ["float64", "int64", "complex128"])
def test_64_bits_need_jax_to_hold_them(dtype):
    with pytest.raises(ValueError) as caught:
        trees.to_jax("w", np.zeros(2, dtype))
    assert str(caught.value) == (
        f"w: expected 32-bit numbers, since JAX is set to these, got {dtype}. "
        'Run jax.config.update("jax_enable_x64", True) first.'
    )
    with jax.enable_x64(True):
        assert trees.to_jax("w", np.zeros(2, dtype)).dtype == dtype
