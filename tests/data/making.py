"""Small files of every format, made by hand."""

import io
import struct
import wave
import zipfile
import zlib

import numpy as np
import scipy.io


def make_zip(**members):
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return raw.getvalue()


def make_wav(samples, channels=1, width=2, rate=8000):
    raw = io.BytesIO()
    with wave.open(raw, "wb") as sound:
        sound.setnchannels(channels)
        sound.setsampwidth(width)
        sound.setframerate(rate)
        sound.writeframes(np.asarray(samples, "<i2").tobytes())
    return raw.getvalue()


def make_idx(array, code=0x08):
    shape = struct.pack(f">{array.ndim}I", *array.shape)
    return bytes([0, 0, code, array.ndim]) + shape + array.tobytes()


def chunk(name, body):
    return struct.pack(">I", len(body)) + name + body + zlib.crc32(name + body).to_bytes(4, "big")


def make_png(rows, width, depth=8, header=None):
    """A PNG of rows of bytes, each with its filter before it."""
    ihdr = header or struct.pack(">IIBBBBB", width, len(rows), depth, 0, 0, 0, 0)
    data = zlib.compress(b"".join(map(bytes, rows)))
    parts = chunk(b"IHDR", ihdr), chunk(b"IDAT", data[:5]), chunk(b"IDAT", data[5:])
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts) + chunk(b"IEND", b"")


def make_rolls(**changes):
    rolls = {f"{split}data": cells(np.eye(3, 88)) for split in ("train", "valid", "test")}
    raw = io.BytesIO()
    scipy.io.savemat(raw, rolls | changes)
    return raw.getvalue()


def cells(*arrays):
    array = np.empty((1, len(arrays)), object)
    array[0, :] = arrays
    return array


BLANK = [[0] + [0xFF] * 14] * 105  # an Omniglot image without ink
TS = b"#caf\xe9\n@dimensions 2\n@classLabel true a b\n@data\n\n1,2:3,4:b\n5:6:a\n"
CHORALES = b'{"train": [[[60, 64], []]], "valid": [[[61.0]]], "test": [[[-1]]]}'
WORDS = (
    b"# text = can't\n1-2\tcan't\t_\t_\t_\t_\t_\t_\t_\t_\n"
    b"1\tca\tcan\tAUX\tMD\t_\t0\troot\t_\t_\n2\tn't\tnot\tPART\tRB\t_\t1\tadvmod\t_\t_\n"
    b"2.1\tgo\tgo\tVERB\tVB\t_\t_\t_\t_\t_\n"
)
SNIPS = b'{"Play": [{"data": [{"text": "a "}, {"text": "b", "entity": "song"}]}]}'
RSS = "#a, b, c, d\n1,2,3,4\n5,6,7,8\n"
