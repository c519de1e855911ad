import hashlib

import numpy as np
import pytest

from rnnlab.data import read_glove

CONTENT = "the 0.5 -1 2e-1\nkönig 1 2 3\nof 4 5 6\n"


def test_vectors_come_in_the_order_of_the_tokens(tmp_path):
    path = tmp_path / "vectors.txt"
    path.write_text(CONTENT, encoding="utf-8")
    vectors = read_glove(path, ("<unk>", "König", "könig", "cat", "the"))
    assert vectors.tokens.tolist() == [2, 4]
    np.testing.assert_array_equal(vectors.values, np.float32([[1, 2, 3], [0.5, -1, 0.2]]))
    assert vectors.sha256 == hashlib.sha256(CONTENT.encode()).hexdigest()


def test_no_word_with_a_vector(tmp_path):
    (tmp_path / "vectors.txt").write_text(CONTENT, encoding="utf-8")
    vectors = read_glove(tmp_path / "vectors.txt", ("<unk>",))
    assert vectors.tokens.shape == (0,)
    assert vectors.values.shape == (0, 3)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "embeddings: expected a file of vectors, found none at .*vectors.txt"),
        ("", r"vectors.txt: expected a word and its vector, got 'an empty file'"),
        ("the\nof\n", "line 1: expected a word and its vector, got 'the'"),
        ("the 1 2\nof 1\n", "vectors.txt: line 2: expected 3 cells separated by ' ', got 2"),
        ("the 1 2\nof 1 2 3\n", "line 2: expected 3 cells separated by ' ', got 4"),
        ("the 1 2\nof 1 x\n", "line 2: expected a finite number, got 'x'"),
        ("the 1 2\nof 1 nan\n", "line 2: expected a finite number, got 'nan'"),
        ("the 1 2\nof 1 2\nthe 1 2\n", "line 3: expected each word once, got 'the'"),
        (b"the 1 2\n\xff 1 2\n", "line 2: expected UTF-8"),
    ],
)
def test_what_is_no_file_of_vectors_says_where(tmp_path, content, message):
    if content is not None:
        content = content if isinstance(content, bytes) else content.encode()
        (tmp_path / "vectors.txt").write_bytes(content)
    with pytest.raises((FileNotFoundError, ValueError), match=message):
        read_glove(tmp_path / "vectors.txt", ())
