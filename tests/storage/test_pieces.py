"""A state in pieces: put together again in any way; a file that is missing, damaged or another is not used."""

import os

import jax
import numpy as np
import pytest

import fnn
from fnn.storage import files
from fnn.storage.checkpoints import read_checkpoint, write_checkpoint
from fnn.storage.pieces import Piece, Pieces, fill, read_pieces, remove_others, write_pieces

W = np.arange(24.0).reshape(4, 6)
PLACES = [[((0, 2), (0, 6)), ((2, 4), (0, 1))], [((2, 4), (1, 6))]]  # of each process


def write(folder, number, w, places=PLACES, **more):
    """A checkpoint with `w` in pieces; the names of the files."""
    split = {}
    for index, regions in enumerate(places):
        parts = [Piece("state/w", region, w[tuple(slice(*at) for at in region)]) for region in regions]
        name, check_sum = write_pieces(str(folder), index, parts)
        split[name] = check_sum
    tree = {"state": {"w": jax.ShapeDtypeStruct(w.shape, w.dtype), "n": np.array(number)}}
    write_checkpoint(folder, number, tree, {"run": 7}, split, **more)
    return list(split)


def test_pieces_are_put_together_whole_or_in_other_parts(tmp_path):
    names = write(tmp_path, 0, W)
    found = read_checkpoint(tmp_path)
    assert (
        np.array_equal(found.leaves["state/w"], W) and found.leaves["state/n"] == 0 and found.description == {"run": 7}
    )
    found = read_checkpoint(tmp_path, whole=False)
    assert found.leaves["state/w"] == jax.ShapeDtypeStruct((4, 6), "float64") and list(found.pieces.files) == names
    parts = {((1, 4), (0, 3)): np.empty((3, 3)), ((0, 1), (5, 6)): np.empty((1, 1))}
    fill({"state/w": parts}, read_pieces(str(tmp_path), found.pieces))
    for ((a, b), (c, d)), part in parts.items():
        assert np.array_equal(part, W[a:b, c:d])


def remove(path):
    os.remove(path)


def flip(path):
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)


def replace(path):
    files.write(path, {"0": np.zeros((2, 5))}, {"kind": "pieces", "format": 1, "pieces": [["state/w", PLACES[1][0]]]})


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("harm", [remove, flip, replace])
def test_where_pieces_are_not_those_that_a_checkpoint_lists_the_one_before_it_is_read(tmp_path, harm, whole):
    write(tmp_path, 0, W)
    names = write(tmp_path, 1, W + 100)
    harm(tmp_path / names[1])
    found = read_checkpoint(tmp_path, whole)
    assert found.number == 0 and len(found.damaged) == 1, names
    assert not whole or np.array_equal(found.leaves["state/w"], W)


@pytest.mark.parametrize("places", [PLACES[:1], [*PLACES, PLACES[1]]])
@pytest.mark.parametrize("whole", [True, False])
def test_pieces_that_leave_a_part_out_or_have_it_twice_are_damaged(tmp_path, places, whole):
    write(tmp_path, 0, W, places)
    with pytest.raises(fnn.DamagedFile, match="expected a whole checkpoint, got 1 damaged"):
        read_checkpoint(tmp_path, whole)


@pytest.mark.parametrize(
    "about",
    [
        [{"../pieces-0123456789ab-0.safetensors": "0" * 64}, {}],
        [{}, {"state/w": [[10**9, 10**9], "float64"]}],
        [{}, {"state/w": [[2], "none"]}],
        ["text", 3],
        7,
    ],
)
def test_a_list_of_pieces_that_cannot_be_is_damage(tmp_path, about):
    path = tmp_path / "checkpoint-0.safetensors"
    files.write(path, {}, {"kind": "checkpoint", "format": 1, "description": None, "pieces": about})
    for whole in (True, False):
        with pytest.raises(fnn.DamagedFile):
            read_checkpoint(tmp_path, whole)


def test_files_that_no_checkpoint_lists_are_removed(tmp_path):
    names = write(tmp_path, 0, W)
    (tmp_path / ".pieces-0123456789ab-0.safetensors.1.tmp").touch()
    (tmp_path / "pieces-0123456789ab-0.safetensors").touch()
    (tmp_path / "notes.txt").touch()
    remove_others(str(tmp_path), names)
    assert sorted(os.listdir(tmp_path)) == ["checkpoint-0.safetensors", "notes.txt", *sorted(names)]
    assert np.array_equal(read_checkpoint(tmp_path).leaves["state/w"], W)


def test_numbers_that_two_pieces_have_are_an_error():
    with pytest.raises(ValueError, match="once"):
        fill({"w": {((0, 2),): np.empty(2)}}, [Piece("w", ((0, 2),), np.ones(2)), Piece("w", ((1, 2),), np.ones(1))])
    assert Pieces({}, {}).files == {}
