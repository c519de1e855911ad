import struct

import numpy as np
import pytest

from rnnlab.data.readers import READERS, parse
from tests.data.making import (
    BLANK,
    CHORALES,
    RSS,
    SNIPS,
    TS,
    WORDS,
    cells,
    make_png,
    make_rolls,
    make_wav,
    make_zip,
)

pytestmark = pytest.mark.promise("R22")


def idx_of(**changes):
    fields = {
        "zero": b"\0\0",
        "code": b"\x08",
        "axes": b"\x01",
        "shape": b"\0\0\0\2",
        "data": b"ab",
    }
    return b"".join((fields | changes).values())


def image_zip(content):
    return make_zip(**{"images/Greek/c/1.png": content})


def pen_zip(content):
    return make_zip(**{"strokes/Greek/c/1.txt": content})


def wav_zip(content, name="recordings/7_theo_12.wav"):
    return make_zip(**{name: content})


def header(width, height, depth, kind):
    return struct.pack(">II5B", width, height, depth, kind, 0, 0, 0)


MALFORMED = {
    "text": [(b"a\nb\xff", r"line 2: expected UTF-8, got byte 0xff at offset 3"), (b"", "record")],
    "lines": [(b"\n\xc3", "line 2: expected UTF-8"), (b"", "at least one record")],
    "csv": [
        (b"", "line 1: expected a row that names every column"),
        (b"a,b\n", "at least one record"),
        (b"a,a\n1,2\n", "line 1: expected distinct columns"),
        (b"a,\n1,2\n", "line 1: expected a row that names every column"),
        (b"a,b\n1,2\n3\n", "line 3: expected 2 cells"),
        (b"a,b\n1,2,3\n", "line 2: expected 2 cells"),
        (b"a,b\n1,2\n\n3,4\n", "line 3: expected a row, got 'an empty line'"),
        (b'a,b\n1,"2\n', "line 2: expected CSV, got unexpected end of data"),
        (b'a,b\n1,"2"x\n', "line 2: expected CSV"),
        (b"a,b\n1,\xe9\n", "line 2: expected UTF-8"),
    ],
    "matrix": [
        (b"", "at least one record"),
        (b"1,2\n3\n", "line 2: expected 2 cells"),
        (b"1,2\n3,NaN\n", "line 2: expected a finite number, got 'NaN'"),
        (b"1,2\n\n3,4\n", "line 2: expected 2 cells"),
        (b"1,2\n3,\n", "line 2: expected a finite number, got ''"),
    ],
    "m4": [
        (b"V1,V2,V3\nH1,,2\n", "line 2: expected a finite number, got ''"),
        (b"V1,V2,V3\nH1,1\n", "line 2: expected 3 cells"),
        (b"V1,V2,V3\nH1,,\n", "line 2: expected a name and at least one value"),
        (b"V1,V2\nH1,inf\n", "line 2: expected a finite number"),
        (b"", "at least one record"),
    ],
    "jsonl": [
        (b"{}\n{\n", "line 2: "),
        (b"{}\n\n{}\n", "line 2: "),
        (b'{"a": NaN}\n', "line 1: expected JSON, which has no NaN"),
        (b"[1]\n", "line 1: expected a JSON object"),
        (b"[" * 200_000, "line 1: "),
    ],
    "labelled": [
        (b"a\t1\nb\n", "line 2: expected 2 cells"),
        (b"a\t1\n\t1\n", "line 2: expected a text and a label"),
        (b"a\t1\nb\tc\t1\n", "line 2: expected 2 cells"),
    ],
    "conll": [
        (b"a\tO\nb\n", "line 2: expected 2 cells"),
        (b"a\tO\nb\t\n", "line 2: expected a token and a tag"),
        (b"\n\n", "at least one record"),
    ],
    "conll_space": [(b"a O\nb\tO\n", "line 2: expected 2 cells")],
    "conllu": [
        (b"1\ta\n", "line 1: expected 10 cells"),
        (WORDS.replace(b"2\tn't", b"3\tn't"), "line 4: expected word 2, got '3'"),
        (WORDS.replace(b"1\tca\t", b"one\tca\t"), "line 3: expected a whole number"),
        (WORDS.replace(b"MD", b""), "line 3: expected ten cells, none empty"),
        (b"# text = none\n\n", "line 2: expected words after the comments"),
    ],
    "snips": [
        (make_zip(**{"readme.txt": ""}), r"readme\.txt: expected train_INTENT_full"),
        (make_zip(**{"validate_Play.json": "{"}), r"validate_Play\.json: "),
        (make_zip(**{"validate_Stop.json": SNIPS}), r"validate_Stop\.json: expected Stop"),
        (
            make_zip(**{"validate_Play.json": SNIPS.replace(b"text", b"t")}),
            r"validate_Play\.json: query 1: expected data:",
        ),
        (
            make_zip(**{"validate_Play.json": SNIPS.replace(b'"a "', b"7")}),
            r"validate_Play\.json: query 1: expected texts",
        ),
        (
            make_zip(**{"train_Play_full.json": b"\xe9"}),
            r"train_Play_full\.json: line 1: expected UTF-8",
        ),
        (b"PK", "expected a whole zip"),
    ],
    "tatoeba": [
        (make_zip(**{"other.txt": ""}), r"expected cmn\.txt in the archive, got other\.txt"),
        (make_zip(**{"cmn.txt": "a\tb\tc\nd\te\n"}), r"cmn\.txt, line 2: expected 3 cells"),
        (make_zip(**{"../cmn.txt": "a\tb\tc\n"}), "leads out of the folder"),
    ],
    "cmudict": [
        (
            make_zip(**{"cmudict/cmudict": "A 1\n"}),
            "line 1: expected a word, a number and phonemes",
        ),
        (make_zip(**{"cmudict/cmudict": "A x AH\n"}), "line 1: expected a whole number, got 'x'"),
        (make_zip(**{"cmudict/cmudict": "A 1 AH\n\n"}), "line 2: expected a word"),
    ],
    "names": [
        (make_zip(**{"names/female.txt": "A\n\n"}), r"names/female\.txt, line 2: expected a name"),
        (make_zip(**{"names/female.txt": "A\n"}), r"expected names/male\.txt"),
    ],
    "captions": [
        (b"a.jpg\ta dog\n", "line 1: expected 2 cells separated by '#'"),
        (b"a.jpg#x\ta dog\n", "line 1: expected a whole number"),
        (b"a.jpg#0\n", "line 1: expected 2 cells"),
    ],
    "ts": [
        (TS.replace(b"dimensions 2", b"dimensions"), "line 6: expected a whole number, got ''"),
        (b"1,2:a\n", "line 1: expected @data"),
        (TS.replace(b"1,2:", b"1:"), "line 6: expected channels of one length"),
        (TS.replace(b":b", b":c"), "line 6: expected a label, one of a, b, got 'c'"),
        (TS.replace(b"1,2:", b""), "line 6: expected 3 cells"),
        (TS.replace(b"1,2:", b"1,?:"), r"line 6: expected a finite number, got '\?'"),
        (TS.replace(b"@data", b"@timestamps true\n@data"), "line 7: expected series without time"),
        (TS.replace(b"1,2:", b"1,\xe9:"), "line 6: expected UTF-8, got byte 0xe9 at offset 50"),
        (b"@data\n", "at least one record"),
    ],
    "indoor_movement": [
        (
            make_zip(**{"dataset/MovementAAL_target.csv": "#i, c\n1,1\n"}),
            r"MovementAAL_RSS_1\.csv: expected such a file",
        ),
        (make_zip(**{"dataset/MovementAAL_target.csv": ""}), r"target\.csv: expected a # line"),
        (
            make_zip(**{"dataset/MovementAAL_target.csv": "#i, c\n../x,1\n"}),
            r"target\.csv: line 2: expected a finite number",
        ),
        (
            make_zip(
                **{
                    "dataset/MovementAAL_target.csv": "#i, c\n1,1\n",
                    "dataset/MovementAAL_RSS_1.csv": RSS + "1,2,3\n",
                }
            ),
            r"RSS_1\.csv: line 4: expected 4 cells",
        ),
    ],
    "chorales": [
        (b'{"train": []}', "expected keys"),
        (CHORALES.replace(b"64", b"64.5"), "train, chorale 1: expected a list of whole numbers"),
        (CHORALES.replace(b"64", b"1e999"), "train, chorale 1: expected a list of whole numbers"),
        (CHORALES.replace(b"[61.0]", b"61"), "valid, chorale 1: expected a list of whole numbers"),
        (CHORALES.replace(b"[[-1]]", b"[]"), "test, chorale 1: expected a list of steps"),
        (CHORALES[:-1], "delimiter"),
    ],
    "piano_rolls": [
        (make_rolls()[:300], "expected a MATLAB 5 file"),
        (b"<html>", "expected a MATLAB 5 file"),
        (
            make_rolls(traindata=cells(np.eye(3, 87))),
            r"traindata, cell 1: expected shape",
        ),
        (
            make_rolls(testdata=cells(np.full((3, 88), 2))),
            "cell 1: expected zeros and ones",
        ),
        (make_rolls(testdata=cells(np.full((3, 88), np.nan))), "expected zeros and ones"),
    ],
    "spoken_digits": [
        (wav_zip(make_wav([])), r"7_theo_12\.wav: expected at least one sample, got 0"),
        (wav_zip(b"RIFF\xff\0\0\0WAVEjunk\xff\0\0\0data"), "expected a wav file"),
        (wav_zip(b""), r"7_theo_12\.wav: expected a wav file"),
        (wav_zip(make_wav([1, 2, 3])[:-2]), r"7_theo_12\.wav: expected 6 bytes of samples, got 4"),
        (wav_zip(make_wav([1, 2], channels=2)), "expected 1 channel of 16 bits"),
        (wav_zip(make_wav([1, 2]), "recordings/seven.wav"), r"expected recordings/\{digit\}"),
    ],
    "idx": [
        (b"", "expected an IDX file"),
        (idx_of(zero=b"PK"), "expected an IDX file"),
        (idx_of(code=b"\x07"), "expected an IDX file"),
        (idx_of(axes=b"\0"), "expected an IDX file"),
        (idx_of(axes=b"\x09"), "expected a header of 40 bytes, got 10"),
        (idx_of(data=b"a"), r"expected 2 bytes for shape \(2,\), got 1"),
        (idx_of(data=b"abc"), r"expected 2 bytes for shape \(2,\), got 3"),
        (idx_of(shape=b"\xff" * 4), "expected 4294967295 bytes"),
    ],
    "omniglot_images": [
        (image_zip(b"GIF89a"), r"images/Greek/c/1\.png: expected a PNG file"),
        (image_zip(make_png(BLANK, 105, 1)[:60]), r"1\.png: expected a (whole PNG|chunk)"),
        (image_zip(make_png(BLANK, 105, 1).replace(b"IHDR", b"IHDS")), "right checksum"),
        (image_zip(make_png(BLANK[:9], 105, 1)), "expected 105 x 105 bits"),
        (image_zip(make_png([[5] + [0] * 14] * 105, 105, 1)), "expected a filter from 0 to 4"),
        (image_zip(make_png([row[:9] for row in BLANK], 105, 1)), "bytes of pixels"),
        (
            image_zip(make_png(BLANK * 2, 105, 1, struct.pack(">II5B", 105, 105, 1, 0, 0, 0, 0))),
            "by",
        ),
        (image_zip(make_png([[0] * 4], 1, header=header(1, 1, 8, 2))), "expected plain greyscale"),
        (make_zip(**{"1.png": make_png(BLANK, 105, 1)}), r"1\.png: expected SET/ALPHABET/"),
    ],
    "omniglot_strokes": [
        (pen_zip("1,2,3\nBREAK\n"), r"Greek/c/1\.txt: expected START"),
        (pen_zip("START\n1,2,3\n"), r"1\.txt: expected START, points and BREAK"),
        (pen_zip("START\n1,2\nBREAK\n"), r"1\.txt: line 2: expected 3 cells"),
        (pen_zip("START\nBREAK\n"), r"1\.txt: line 2: expected points before BREAK"),
        (pen_zip("START\n1,2,nan\nBREAK\n"), r"1\.txt: line 2: expected a finite number"),
        (pen_zip(""), r"1\.txt: expected START"),
    ],
}


def test_every_format_has_malformed_examples():
    assert set(MALFORMED) == set(READERS)


@pytest.mark.parametrize(
    ("format", "content", "message"),
    [
        pytest.param(format, *case, id=f"{format}-{number}")
        for format, cases in MALFORMED.items()
        for number, case in enumerate(cases)
    ],
)
def test_malformed_content_is_an_error_that_names_file_and_place(format, content, message):
    with pytest.raises(ValueError, match=message) as error:
        parse(content, format, "folder/the-file")
    assert str(error.value).startswith("folder/the-file: ")


@pytest.mark.parametrize("format", READERS)
@pytest.mark.parametrize("content", [b"", b"\0", b"\xff\xfe\xfd", b"<html>sorry</html>\n"])
def test_what_is_something_else_is_never_another_kind_of_error(format, content):
    try:
        records = parse(content, format, "the-file")
    except ValueError as error:
        assert str(error).startswith("the-file: ")
    else:
        assert format in ("text", "lines")
        assert len(records)


def test_unknown_format():
    with pytest.raises(ValueError, match=r"format: expected one of text, lines, .*, got 'pickle'"):
        parse(b"", "pickle", "x")
