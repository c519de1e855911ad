"""Sounds, images and pen strokes."""

import io
import math
import re
import wave
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from rnnlab.data.archives import read_members
from rnnlab.data.readers.common import cells_of, expect, finite, lines_of, located
from rnnlab.data.readers.png import read_png


class SpokenDigit(NamedTuple):
    """A recording of one digit."""

    digit: int
    speaker: str
    number: int  # among this speaker's recordings of this digit; 0 to 4 are the test part
    rate: int  # samples per second
    samples: np.ndarray  # int16 [T]


class Drawing(NamedTuple):
    """A character somebody drew, as an image; the same `character` and `name` have its strokes."""

    alphabet: str
    character: str
    name: str  # {id}_{drawer}
    image: np.ndarray  # uint8 [105, 105], 1 where there is ink


class Strokes(NamedTuple):
    """A character somebody drew, as the way of the pen."""

    alphabet: str
    character: str
    name: str
    strokes: tuple[np.ndarray, ...]  # float64 [points, 3]: x, y, milliseconds


def spoken_digits(content: bytes) -> list[SpokenDigit]:
    """A zip of `recordings/{digit}_{speaker}_{index}.wav`, mono and 16 bits."""
    records = []
    for name, member in read_members(content):
        with located(name):
            match = re.fullmatch(r"recordings/(\d)_([a-z]+)_(\d+)\.wav", name)
            if not match:
                raise ValueError("expected recordings/{digit}_{speaker}_{index}.wav.")
            rate, samples = _wav(member)
            records.append(SpokenDigit(int(match[1]), match[2], int(match[3]), rate, samples))
    return records


def _wav(content: bytes) -> tuple[int, np.ndarray]:
    try:
        with wave.open(io.BytesIO(content)) as sound:
            shape = (sound.getnchannels(), 8 * sound.getsampwidth())
            count, rate = sound.getnframes(), sound.getframerate()
            frames = sound.readframes(count)
    except (wave.Error, EOFError, RuntimeError) as error:
        raise ValueError(f"expected a wav file, got one that is broken ({error!r}).") from error
    expect(shape == (1, 16), "1 channel of 16 bits", shape)
    expect(count, "at least one sample", count)
    expect(len(frames) == 2 * count, f"{2 * count} bytes of samples", len(frames))
    return rate, np.frombuffer(frames, "<i2").astype(np.int16)


_IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def idx(content: bytes) -> np.ndarray:
    """MNIST's IDX: an array with its type and shape before it; records along the first axis."""
    known = len(content) >= 4 and content[:2] == b"\0\0" and content[2] in _IDX_TYPES and content[3]
    expect(known, "an IDX file", content[:4])
    dtype, start = np.dtype(_IDX_TYPES[content[2]]), 4 + 4 * content[3]
    expect(len(content) >= start, f"a header of {start} bytes", len(content))
    shape = tuple(int(n) for n in np.frombuffer(content[4:start], ">u4"))
    size = math.prod(shape) * dtype.itemsize
    expect(len(content) == start + size, f"{size} bytes for shape {shape}", len(content) - start)
    values = np.frombuffer(content, dtype, offset=start).reshape(shape)
    return values.astype(dtype.newbyteorder("="))


def omniglot_images(content: bytes) -> list[Drawing]:
    """Omniglot: a zip of `SET/ALPHABET/CHARACTER/NAME.png`."""
    return [Drawing(*record) for record in _drawings(content, "png", _image)]


def omniglot_strokes(content: bytes) -> list[Strokes]:
    """Omniglot: a zip of `SET/ALPHABET/CHARACTER/NAME.txt`, each the way of a pen.

    A file is `START`, then strokes: lines `x,y,t` and `BREAK` at the end.
    """
    return [Strokes(*record) for record in _drawings(content, "txt", _strokes)]


def _drawings(
    content: bytes, extension: str, read: Callable[[bytes], Any]
) -> Iterator[tuple[str, str, str, Any]]:
    """Alphabet, character, name and drawing; what macOS adds to an archive is skipped."""
    for path, member in read_members(content):
        parts = path.split("/")
        if parts[0] == "__MACOSX" or parts[-1] == ".DS_Store":
            continue
        with located(path):
            fits = len(parts) == 4 and parts[3].endswith(f".{extension}")
            expect(fits, f"SET/ALPHABET/CHARACTER/NAME.{extension}", path)
            yield parts[1], parts[2], parts[3].removesuffix(f".{extension}"), read(member)


def _image(content: bytes) -> np.ndarray:
    image = read_png(content)
    expect(image.shape == (105, 105) and image.max() <= 1, "105 x 105 bits", image.shape)
    return 1 - image  # paper is white, which is 1


def _strokes(content: bytes) -> tuple[np.ndarray, ...]:
    lines = lines_of(content)
    expect(lines[:1] == ["START"] and lines[-1] == "BREAK", "START, points and BREAK", lines)
    strokes, points = [], []
    for number, line in enumerate(lines[1:], start=2):
        with located(f"line {number}"):
            if line == "BREAK":
                expect(points, "points before BREAK", line)
                strokes.append(np.array(points))
                points = []
            else:
                points.append([finite(cell) for cell in cells_of(line, ",", 3)])
    return tuple(strokes)
