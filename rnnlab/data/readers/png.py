"""Greyscale PNG images of the plainest kind, with zlib alone: enough for Omniglot."""

import struct
import zlib
from collections.abc import Iterator

import numpy as np

from rnnlab.data.readers.common import expect

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_MAX_PIXELS = 2**24


def read_png(content: bytes) -> np.ndarray:
    """A greyscale image of 1 or 8 bits, not interlaced: uint8 `[height, width]`.

    Args:
      content: the bytes of a PNG file. Other kinds of PNG are errors.

    References:
      Portable Network Graphics (PNG) Specification, ISO/IEC 15948.
    """
    expect(content.startswith(_SIGNATURE), "a PNG file", content[:8])
    chunks = list(_chunks(content))
    expect(chunks and chunks[0][0] == b"IHDR" and len(chunks[0][1]) == 13, "a header", chunks[:1])
    width, height, depth, *kind = struct.unpack(">IIBBBBB", chunks[0][1])
    expect(depth in (1, 8) and kind == [0, 0, 0, 0], "plain greyscale, 1 or 8 bits", [depth, *kind])
    expect(0 < width * height <= _MAX_PIXELS, f"1 to {_MAX_PIXELS} pixels", [width, height])
    stride = (width * depth + 7) // 8
    pixels = b"".join(body for name, body in chunks if name == b"IDAT")
    data = _inflate(pixels, height * (stride + 1))
    rows = _unfilter(np.frombuffer(data, np.uint8).reshape(height, stride + 1))
    return np.unpackbits(rows, axis=1, count=width) if depth == 1 else rows


def _chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    offset, name = len(_SIGNATURE), b""
    while name != b"IEND":
        expect(len(content) >= offset + 12, "a whole PNG file", "one that is cut short")
        size, name = struct.unpack_from(">I4s", content, offset)
        body = content[offset + 8 : offset + 8 + size]
        checksum = content[offset + 8 + size : offset + 12 + size]
        whole = checksum == zlib.crc32(name + body).to_bytes(4, "big")
        expect(whole, "a chunk with the right checksum", name)
        yield name, body
        offset += 12 + size


def _inflate(data: bytes, size: int) -> bytes:
    try:
        inflated = zlib.decompressobj().decompress(data, size + 1)  # never more, whatever it holds
    except zlib.error as error:
        raise ValueError(f"expected a whole PNG file, got broken pixels ({error}).") from error
    expect(len(inflated) == size, f"{size} bytes of pixels", len(inflated))
    return inflated


def _unfilter(rows: np.ndarray) -> np.ndarray:
    """Undoes what each row's first byte names: nothing, or a prediction from left and above."""
    result = np.zeros((len(rows) + 1, rows.shape[1]), np.uint8)  # zeros above and to the left
    for above, current, (kind, *filtered) in zip(result, result[1:], rows, strict=False):
        expect(kind <= 4, "a filter from 0 to 4", kind)
        if kind in (0, 2):
            current[1:] = filtered if kind == 0 else np.array(filtered, np.uint8) + above[1:]
            continue
        for i, value in enumerate(filtered, start=1):
            left, up, corner = int(current[i - 1]), int(above[i]), int(above[i - 1])
            predicted = {1: left, 3: (left + up) // 2, 4: _paeth(left, up, corner)}[int(kind)]
            current[i] = (int(value) + predicted) % 256
    return result[1:, 1:]


def _paeth(left: int, up: int, corner: int) -> int:
    """Whichever of the three is nearest to `left + up - corner`."""
    return min((left, up, corner), key=lambda value: abs(left + up - corner - value))
