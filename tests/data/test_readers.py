import hashlib
import io

import numpy as np
import pytest

from rnnlab.data.readers import READERS, numbers, read_records
from rnnlab.data.readers.language import Caption, Name, Pair, Pronunciation, Tagged
from rnnlab.data.readers.png import read_png
from rnnlab.data.readers.tables import Labelled
from rnnlab.data.registry import DATASETS, DataFile, Dataset
from tests.data.making import (
    BLANK,
    CHORALES,
    RSS,
    SNIPS,
    TS,
    WORDS,
    cells,
    make_idx,
    make_png,
    make_rolls,
    make_wav,
    make_zip,
)


def test_text_is_kept_as_it_is():
    assert READERS["text"]("a\r\n«b»".encode()) == "a\r\n«b»"


def test_only_line_feeds_end_lines():
    assert READERS["lines"]("a\r\n\nb\u2028c\x0bd\n e ".encode()) == [
        "a",
        "",
        "b\u2028c\x0bd",
        " e ",
    ]


def test_csv_and_its_numbers():
    rows = READERS["csv"](b'day,"rain, mm",note\n1,0.5,"a ""b"""\n2,NA,"c\nd"\n3,-1e3,\n')
    assert rows[0] == {"day": "1", "rain, mm": "0.5", "note": 'a "b"'}
    assert rows[1]["note"] == "c\nd"
    values = numbers(rows, ["rain, mm", "day"], missing=["NA"])
    np.testing.assert_array_equal(values, [[0.5, 1], [np.nan, 2], [-1000, 3]])
    with pytest.raises(ValueError, match=r"line 4, column 'rain, mm': .* finite number, got 'NA'"):
        numbers(rows, ["rain, mm"])
    with pytest.raises(ValueError, match=r"one of the columns day, rain, mm, note, got 'snow'"):
        numbers(rows, ["snow"])
    for cell in ("nan", "inf", "", "1_0x"):
        with pytest.raises(ValueError, match=r"line 2, column 'x': expected a finite number"):
            numbers([{"x": cell}], ["x"])


def test_matrix():
    np.testing.assert_array_equal(READERS["matrix"](b"1,2,3\n4,5,-6e1\n"), [[1, 2, 3], [4, 5, -60]])


def test_m4_series_end_where_their_cells_do():
    first, second = READERS["m4"](b'"V1","V2","V3"\n"H1","1","2"\n"H2","3",\n')
    assert (first.name, second.name) == ("H1", "H2")
    np.testing.assert_array_equal(first.values, [1, 2])
    np.testing.assert_array_equal(second.values, [3])


def test_plain_language_formats():
    assert READERS["jsonl"]('{"a": ["詩"]}\n{}\n'.encode()) == [{"a": ["詩"]}, {}]
    assert READERS["labelled"](b"so good\t1\n") == [Labelled("so good", "1")]
    expected = [Tagged(("Ann", "ran"), ("B-x", "O")), Tagged((".",), ("O",))]
    assert READERS["conll"](b"Ann\tB-x\nran\tO\n\t\n\n.\tO\n") == expected
    assert READERS["conll_space"](b"\nAnn B-x\nran O\n\n. O") == expected
    assert READERS["captions"](b"1.jpg#0\ta # dog .\n") == [Caption("1.jpg", 0, "a # dog .")]


def test_conllu_keeps_words_alone():
    (sentence,) = READERS["conllu"](WORDS + b"\n")
    assert sentence.comments == ("# text = can't",)
    assert [(word.id, word.form, word.upos, word.head) for word in sentence.words] == [
        (1, "ca", "AUX", 0),
        (2, "n't", "PART", 1),
    ]
    assert len(READERS["conllu"](WORDS + b"\n" + WORDS)) == 2


def test_snips_with_its_one_file_in_latin_1():
    latin = '{"PlayMusic": [{"data": [{"text": "é"}]}]}'.encode("latin-1")
    content = make_zip(
        **{
            "train_PlayMusic_full.json": latin,
            "validate_Play.json": SNIPS,
        }
    )
    first, second = READERS["snips"](content)
    assert (first.split, first.intent, first.chunks) == ("train", "PlayMusic", (("é", None),))
    assert second == ("valid", "Play", (("a ", None), ("b", "song")))


def test_archives_of_language():
    pairs = make_zip(**{"cmn.txt": "Hi.\t嗨。\tby Ann\n", "_about.txt": "about"})
    assert READERS["tatoeba"](pairs) == [Pair("Hi.", "嗨。", "by Ann")]
    said = make_zip(**{"cmudict/cmudict": "D\xc9J\xc0 2 D EY1\n".encode("latin-1"), "README": ""})
    assert READERS["cmudict"](said) == [Pronunciation("DÉJÀ", 2, ("D", "EY1"))]
    names = make_zip(**{"names/male.txt": "Al\n", "names/female.txt": "Dee Dee\nGale \n"})
    assert READERS["names"](names) == [
        Name("Dee Dee", "female"),
        Name("Gale", "female"),
        Name("Al", "male"),
    ]


def test_ts_has_comments_in_any_encoding_and_series_of_any_length():
    first, second = READERS["ts"](TS)
    np.testing.assert_array_equal(first.values, [[1, 3], [2, 4]])
    assert (first.label, second.label, second.values.shape) == ("b", "a", (1, 2))


def test_indoor_movement():
    target = "#sequence_ID, class_label\n1, -1\n"
    content = make_zip(
        **{"dataset/MovementAAL_target.csv": target, "dataset/MovementAAL_RSS_1.csv": RSS}
    )
    (record,) = READERS["indoor_movement"](content)
    np.testing.assert_array_equal(record.values, [[1, 2, 3, 4], [5, 6, 7, 8]])
    assert record.label == "-1"


def test_music():
    records = READERS["chorales"](CHORALES)
    assert records == [
        ("train", ((60, 64), ())),
        ("valid", ((61,),)),
        ("test", ((-1,),)),
    ]
    assert all(type(pitch) is int for record in records for step in record.steps for pitch in step)
    rolls = READERS["piano_rolls"](make_rolls(traindata=cells(np.eye(2, 88), np.zeros((5, 88)))))
    assert [(roll.split, len(roll.roll)) for roll in rolls] == [
        ("train", 2),
        ("train", 5),
        ("valid", 3),
        ("test", 3),
    ]
    np.testing.assert_array_equal(rolls[0].roll, np.eye(2, 88))


def test_spoken_digits():
    content = make_zip(**{"recordings/7_theo_12.wav": make_wav([1, -2, 32767])})
    (record,) = READERS["spoken_digits"](content)
    assert record[:4] == (7, "theo", 12, 8000)
    np.testing.assert_array_equal(record.samples, np.array([1, -2, 32767], np.int16))


@pytest.mark.parametrize(("code", "dtype"), [(0x08, ">u1"), (0x0B, ">i2"), (0x0D, ">f4")])
def test_idx(code, dtype):
    array = np.arange(24).reshape(2, 3, 4).astype(dtype)
    read = READERS["idx"](make_idx(array, code))
    np.testing.assert_array_equal(read, array)
    assert read.dtype == array.dtype.newbyteorder("=")
    assert read.dtype.isnative


def test_omniglot():
    ink = [*BLANK[:3], [0] + [0xFF] * 13 + [0x7F], *BLANK[4:]]
    member = {"images/Greek/character01/0001_02.png": make_png(ink, 105, 1)}
    (drawing,) = READERS["omniglot_images"](make_zip(**member, **{"images/.DS_Store": "x"}))
    assert drawing[:3] == ("Greek", "character01", "0001_02")
    assert np.argwhere(drawing.image).tolist() == [[3, 104]]
    pen = "START\n1,-2,0\n3,4,56.5\nBREAK\n5,6,100\nBREAK\n"
    member = {"strokes/Greek/character01/0001_02.txt": pen, "__MACOSX/strokes/._x": "x"}
    (drawing,) = READERS["omniglot_strokes"](make_zip(**member))
    assert drawing[:3] == ("Greek", "character01", "0001_02")
    first, second = drawing.strokes
    np.testing.assert_array_equal(first, [[1, -2, 0], [3, 4, 56.5]])
    np.testing.assert_array_equal(second, [[5, 6, 100]])


def png_filter(image):
    """The rows of an image as PNG's five filters write them, one after another, by the standard."""
    padded = np.pad(image.astype(int), ((1, 0), (1, 0)))
    for y in range(len(image)):
        row, kind = [], y % 5
        for x in range(image.shape[1]):
            left, up, corner = padded[y + 1, x], padded[y, x + 1], padded[y, x]
            p = left + up - corner
            a, b, c = abs(p - left), abs(p - up), abs(p - corner)
            paeth = left if a <= b and a <= c else up if b <= c else corner
            guess = [0, left, up, (left + up) // 2, paeth][kind]
            row.append((image[y, x] - guess) % 256)
        yield [kind, *row]


def test_png_filters():
    image = np.random.default_rng(0).integers(0, 256, (20, 7))
    np.testing.assert_array_equal(read_png(make_png(list(png_filter(image)), 7)), image)


def test_png_reads_what_matplotlib_writes(tmp_path):
    pil = pytest.importorskip("PIL.Image")
    image = np.random.default_rng(0).integers(0, 4, (30, 19)).astype(np.uint8) * 60
    for given, mode in ((image, "L"), (image > 60, "1")):
        raw = io.BytesIO()
        pil.fromarray(given).convert(mode).save(raw, "png")
        np.testing.assert_array_equal(read_png(raw.getvalue()), given)


def test_read_records_names_the_path(tmp_path):
    content = b"1,2\n3,x\n"
    file = DataFile("a.csv", hashlib.sha256(content).hexdigest(), format="matrix")
    entry = Dataset("a", "a", "", "", (file,))
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "a.csv").write_bytes(content)
    with pytest.raises(ValueError, match=r"a/a\.csv: line 2: expected a finite number, got 'x'"):
        read_records(entry, "a.csv", str(tmp_path))


def test_every_format_is_used():
    used = {file.format for entry in DATASETS.values() for file in entry.files}
    assert used == set(READERS)
