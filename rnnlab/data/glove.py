"""Word vectors that somebody else has learned, in GloVe's text format."""

import hashlib
import os
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rnnlab.data.readers.common import cells_of, expect, finite, lines_of, located


class Vectors(NamedTuple):
    """The vectors of some tokens."""

    tokens: np.ndarray  # int [K]
    values: np.ndarray  # float32 [K, E]
    sha256: str  # of the file they are from


def read_glove(path: str | os.PathLike, words: Sequence[str]) -> Vectors:
    r"""Reads the vectors of a vocabulary: a line is a word and E numbers, with blanks between.

    The whole file is checked, so that a bad line does not wait for a vocabulary that has its word.

    Args:
      path: of the file, in UTF-8, without a header.
      words: the word of each token; it is looked for as it is written.

    Returns:
      The vectors of those that have one, in the order of the tokens.

    Raises:
      FileNotFoundError: no such file.
      ValueError: a line with another E than the first, with something that is not a finite number,
        or with a word that an earlier line has; the message names the line.

    Example:
        >>> import tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp(), "vectors.txt")
        >>> _ = path.write_text("king 0.5 1\nqueen 0.5 2\n")
        >>> read_glove(path, ["<unk>", "queen"])[:2]
        (array([1]), array([[0.5, 2. ]], dtype=float32))

    References: Pennington et al. 2014, "GloVe: global vectors for word representation". Its largest
    file has some words with blanks in them, which are refused here: no text has such words.
    """
    path = pathlib.Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"embeddings: expected a file of vectors, found none at {path}.")
    content = path.read_bytes()
    with located(str(path)):
        lines = lines_of(content)
        expect(lines, "a word and its vector", "an empty file")
        cells = lines[0].count(" ") + 1
        wanted, seen = set(words), set()
        rows: dict[str, list[float]] = {}  # of the wanted words: a file may have millions of others
        for number, line in enumerate(lines, start=1):
            with located(f"line {number}"):
                word, *numbers = cells_of(line, " ", cells)
                expect(word and numbers, "a word and its vector", line)
                expect(word not in seen, "each word once", word)
                seen.add(word)
                vector = [finite(cell) for cell in numbers]
                if word in wanted:
                    rows[word] = vector
    tokens = [token for token, word in enumerate(words) if word in rows]
    values = np.array([rows[words[token]] for token in tokens], np.float32)
    digest = hashlib.sha256(content).hexdigest()
    return Vectors(np.array(tokens, int), values.reshape(-1, cells - 1), digest)
