"""Series to classify, and music as series of notes."""

import io
import re
from typing import NamedTuple, cast

import numpy as np

from rnnlab.data.archives import read_members
from rnnlab.data.readers.common import (
    cells_of,
    decode,
    expect,
    finite,
    integer,
    lines_of,
    located,
    parse_json,
)


class Classified(NamedTuple):
    """A series of one or more channels and its class."""

    values: np.ndarray  # float64 [T, channels]
    label: str


class Chorale(NamedTuple):
    """A chorale as the pitches that sound at each step; -1 is a voice that is silent."""

    split: str  # "train", "valid" or "test"
    steps: tuple[tuple[int, ...], ...]  # MIDI pitches


class PianoRoll(NamedTuple):
    """A piece as the keys that sound at each step."""

    split: str  # "train", "valid" or "test"
    roll: np.ndarray  # uint8 [T, 88], 1 where a key sounds


SPLITS = ("train", "valid", "test")


def ts(content: bytes) -> list[Classified]:
    """The `.ts` files of the UCR/UEA archive: `channel:channel:...:label` lines after `@data`.

    A channel is numbers with commas between them; all channels of a series are as long. Comments
    need not be UTF-8; empty lines are skipped.
    """
    header: dict[str, list[str]] = {}
    records = []
    content = re.sub(rb"(?m)^#.*$", lambda comment: b" " * len(comment[0]), content)
    for number, line in enumerate(map(str.strip, lines_of(content)), start=1):
        if not line:
            continue
        with located(f"line {number}"):
            if "@data" in header:
                records.append(_case(line, header))
            elif line.startswith("@"):
                key, *values = line.split()
                header[key.lower()] = values
            else:
                raise ValueError("expected @data before the first series.")
    return records


def _case(line: str, header: dict[str, list[str]]) -> Classified:
    channels = integer(" ".join(header.get("@dimensions", ["1"])))
    expect(header.get("@timestamps", ["false"]) == ["false"], "series without time stamps", "some")
    *cells, label = cells_of(line, ":", channels + 1)
    labels = header.get("@classlabel", [])[1:]
    expect(label in labels, f"a label, one of {', '.join(labels)}", label)
    values = [[finite(cell) for cell in channel.split(",")] for channel in cells]
    lengths = {len(channel) for channel in values}
    expect(len(lengths) == 1, "channels of one length", sorted(lengths))
    return Classified(np.array(values).T, label)


def indoor_movement(content: bytes) -> list[Classified]:
    """UCI Indoor Movement: a zip with `dataset/MovementAAL_RSS_{i}.csv` and the labels of all i."""
    members = dict(read_members(content))
    records = []
    for identity, label in _unnamed(members, "dataset/MovementAAL_target.csv", 2):
        rows = _unnamed(members, f"dataset/MovementAAL_RSS_{integer(identity)}.csv", 4)
        records.append(Classified(np.array([[float(cell) for cell in row] for row in rows]), label))
    return records


def _unnamed(members: dict[str, bytes], name: str, columns: int) -> list[list[str]]:
    """The cells, all of them numbers, below a first line that starts with `#`."""
    with located(name):
        expect(name in members, "such a file in the archive", f"{len(members)} others")
        header, *lines = lines_of(members[name]) or [""]
        expect(header.startswith("#") and lines, "a # line and rows below it", header)
        rows = []
        for number, line in enumerate(lines, start=2):
            with located(f"line {number}"):
                rows.append([cell.strip() for cell in cells_of(line, ",", columns)])
                for cell in rows[-1]:
                    finite(cell)
        return rows


def chorales(content: bytes) -> list[Chorale]:
    """The JSB chorales: a JSON object, split -> chorales -> steps -> pitches."""
    value = parse_json(decode(content))
    expect(isinstance(value, dict) and set(value) == set(SPLITS), f"keys {SPLITS}", value)
    records = []
    for split in SPLITS:
        expect(isinstance(value[split], list), "a list of chorales", value[split])
        for number, steps in enumerate(value[split], start=1):
            with located(f"{split}, chorale {number}"):
                expect(steps and isinstance(steps, list), "a list of steps", steps)
                records.append(Chorale(split, tuple(map(_pitches, steps))))
    return records


def _pitches(step: object) -> tuple[int, ...]:
    """The pitches of a step, some of which are written as `67.0`."""
    whole = isinstance(step, list) and all(
        type(pitch) is int or (type(pitch) is float and pitch.is_integer()) for pitch in step
    )
    expect(whole, "a list of whole numbers", step)
    return tuple(int(pitch) for pitch in cast(list, step))


def piano_rolls(content: bytes) -> list[PianoRoll]:
    """Polyphonic music as MATLAB 5 cells `traindata`, `validdata`, `testdata` of `[T, 88]`."""
    from scipy.io import loadmat  # comes with jax; slow to import

    try:
        cells = loadmat(io.BytesIO(content), variable_names=[f"{split}data" for split in SPLITS])
    except Exception as error:  # what a broken file raises depends on where it is broken
        raise ValueError(f"expected a MATLAB 5 file, got one that is broken ({error}).") from error
    records = []
    for split in SPLITS:
        expect(f"{split}data" in cells, f"a variable {split}data", sorted(cells))
        for number, roll in enumerate(cells[f"{split}data"].ravel(), start=1):
            with located(f"{split}data, cell {number}"):
                shape = np.shape(roll)
                expect(len(shape) == 2 and shape[0] and shape[1] == 88, "shape [T, 88]", shape)
                expect(np.isin(roll, (0, 1)).all(), "zeros and ones", np.unique(roll))
                records.append(PianoRoll(split, roll.astype(np.uint8)))
    return records
