"""A state that is split over several processes: each writes its pieces to a file of its own, which a checkpoint lists.

The checkpoint is written last. So it is there, and says the check sum of each file, or it is not there at all, and the
files that it would have listed are of no use: they are removed when the next one is written.
"""

import os
import re
import secrets
from collections.abc import Collection, Iterable, Iterator, Mapping
from math import prod
from typing import Any, NamedTuple

import jax
import numpy as np

from fnn.devices.atomic import remove
from fnn.storage import files
from fnn.storage.files import FORMAT, damage_error, read_kind

Region = tuple[tuple[int, int], ...]  # (begin, end) along each axis
HINT = "Let all processes see the folder, or restore it from a copy."


class Piece(NamedTuple):
    """A part of an array: the name of the array, where the part is in it, and its numbers."""

    leaf: str
    region: Region
    numbers: Any


class Pieces(NamedTuple):
    """What a checkpoint says of the arrays that are not in it."""

    files: Mapping[str, str]  # name -> check sum
    shapes: Mapping[str, jax.ShapeDtypeStruct]  # of the arrays


def region_of(index: tuple[slice, ...], shape: tuple[int, ...]) -> Region:
    """Slices as numbers.

    >>> from fnn.storage.pieces import region_of
    >>> region_of((slice(None), slice(2, 4)), (3, 8))
    ((0, 3), (2, 4))
    """
    return tuple(at.indices(size)[:2] for at, size in zip(index, shape, strict=True))


def write_pieces(folder: str, index: int, pieces: Iterable[Piece]) -> tuple[str, str]:
    """Write the pieces of a process to a file of a new name; the name and its check sum."""
    numbers, about = {}, []
    for count, piece in enumerate(pieces):
        numbers[str(count)] = piece.numbers
        about.append([piece.leaf, piece.region])
    name = f"pieces-{secrets.token_hex(6)}-{index}.safetensors"
    path = os.path.join(folder, name)
    files.write(path, numbers, {"kind": "pieces", "format": FORMAT, "pieces": about})
    return name, files.read_check_sum(path)


def describe(pieces: Pieces) -> Any:
    """What a checkpoint says, for JSON."""
    return [dict(pieces.files), {name: [list(of.shape), of.dtype.name] for name, of in pieces.shapes.items()}]


def from_description(about: Any) -> Pieces | None:
    """`describe` backwards; None where a checkpoint has all arrays in it."""
    if about is None:
        return None
    names, shapes = about
    strange = next((name for name in names if not re.fullmatch(r"pieces-[0-9a-f]{12}-\d+\.safetensors", name)), None)
    if strange is not None:
        raise ValueError(f"the name {strange!r}")
    return Pieces(names, {name: jax.ShapeDtypeStruct(shape, dtype) for name, (shape, dtype) in shapes.items()})


def check_visible(folder: str, names: Mapping[str, str]) -> None:
    """Raise a DamagedFile where a file cannot be seen from here, or is another."""
    for name, check_sum in names.items():
        path = os.path.join(folder, name)
        got = files.read_check_sum(path) if os.path.isfile(path) else "no file"
        if got != check_sum:
            raise damage_error(path, f"the check sum {check_sum[:12]!r}", got[:12], HINT)


def read_pieces(folder: str, pieces: Pieces) -> Iterator[Piece]:
    """All pieces, one file in memory at a time.

    Raises:
        DamagedFile: a file is missing, damaged, or another.
    """
    for name, check_sum in pieces.files.items():
        path = os.path.join(folder, name)
        check_visible(folder, {name: check_sum})
        numbers, about = read_kind(path, "pieces")
        with files.naming_damage(path, "the pieces of a state", HINT):
            for count, (leaf, region) in enumerate(about["pieces"]):
                yield Piece(leaf, tuple((int(a), int(b)) for a, b in region), numbers[str(count)])


def fill(arrays: Mapping[str, Mapping[Region, np.ndarray]], pieces: Iterable[Piece]) -> None:
    """Fill parts of arrays, `name -> region -> numbers`, with what the pieces have of them.

    Raises:
        ValueError: the pieces leave a part of an array out, or have it twice.
    """
    missing = {(name, region): of.size for name, regions in arrays.items() for region, of in regions.items()}
    for piece in pieces:
        for region, into in arrays.get(piece.leaf, {}).items():
            both = [(max(a, c), min(b, d)) for (a, b), (c, d) in zip(region, piece.region, strict=True)]
            if all(a < b for a, b in both):
                at, of = (
                    tuple(slice(a - c, b - c) for (a, b), (c, _) in zip(both, whole, strict=True))
                    for whole in (region, piece.region)
                )
                into[at] = piece.numbers[of]
                missing[piece.leaf, region] -= prod(b - a for a, b in both)
    wrong = [name for (name, _), count in missing.items() if count]
    if wrong:
        raise ValueError(f"pieces: expected each number of {wrong[0]} once, got some missing or twice. {HINT}")


def read_whole(folder: str, pieces: Pieces) -> dict[str, np.ndarray]:
    """The arrays, put together.

    Raises:
        DamagedFile: a file is missing, damaged, or another, or a part of an array is in none.
    """
    check_whole(folder, pieces)  # before there is memory for what a file says of itself
    arrays = {
        name: {region_of((slice(None),) * len(of.shape), of.shape): np.empty(of.shape, of.dtype)}
        for name, of in pieces.shapes.items()
    }
    with files.naming_damage(folder, "the pieces of a state", HINT):
        fill(arrays, read_pieces(folder, pieces))
    return {name: next(iter(regions.values())) for name, regions in arrays.items()}


def check_whole(folder: str, pieces: Pieces) -> None:
    """Raise a DamagedFile where a file is missing or damaged, or a part of an array is in none."""
    left = {name: of.size for name, of in pieces.shapes.items()}
    with files.naming_damage(folder, "the pieces of a state", HINT):
        for piece in read_pieces(folder, pieces):
            left[piece.leaf] -= piece.numbers.size
        for name, count in left.items():
            if count:
                raise ValueError(f"a part of {name}")


def remove_others(folder: str, keep: Collection[str]) -> None:
    """Remove the files of pieces that no checkpoint lists, and what killed processes have left of such."""
    names = [name for name in os.listdir(folder) if name.startswith(("pieces-", ".pieces-"))]
    remove(folder, [name for name in names if name not in keep])
