# SPDX-License-Identifier: MIT
"""A small MJPEG-in-AVI writer and reader (AVI 1.0: RIFF with LIST hdrl, LIST movi, idx1).

Layout after Microsoft's "AVI RIFF File Reference". All integers are little-endian; a chunk is
fourcc, size, payload, and a pad byte if the size is odd.
"""

from __future__ import annotations

import struct
from pathlib import Path

_HAS_INDEX, _KEY_FRAME = 0x10, 0x10
_FRAME_ID = b"00dc"  # stream 0, compressed video


def _chunk(fourcc: bytes, payload: bytes) -> bytes:
    return fourcc + struct.pack("<I", len(payload)) + payload + b"\0" * (len(payload) & 1)


def _list(kind: bytes, payload: bytes) -> bytes:
    return _chunk(b"LIST", kind + payload)


def _header(frames: list[bytes], width: int, height: int, rate_hz: int) -> bytes:
    largest = max(map(len, frames))
    main = struct.pack(
        "<14I", round(1e6 / rate_hz), largest * rate_hz, 0, _HAS_INDEX, len(frames), 0, 1, largest,
        width, height, 0, 0, 0, 0)
    stream = struct.pack(
        "<4s4sIHHIIIIIIII4H", b"vids", b"MJPG", 0, 0, 0, 0, 1, rate_hz, 0, len(frames), largest,
        0xFFFFFFFF, 0, 0, 0, width, height)
    bitmap = struct.pack("<IiiHH4sIiiII", 40, width, height, 1, 24, b"MJPG", width * height * 3,
                         0, 0, 0, 0)
    return _list(b"hdrl", _chunk(b"avih", main)
                 + _list(b"strl", _chunk(b"strh", stream) + _chunk(b"strf", bitmap)))


def write(path: Path, frames: list[bytes], width: int, height: int, rate_hz: int) -> None:
    """Write JPEG frames as one AVI file."""
    movi, index = [b"movi"], []
    offset = 4  # idx1 counts from the fourcc "movi"
    for frame in frames:
        chunk = _chunk(_FRAME_ID, frame)
        index.append(struct.pack("<4sIII", _FRAME_ID, _KEY_FRAME, offset, len(frame)))
        movi.append(chunk)
        offset += len(chunk)
    body = (b"AVI " + _header(frames, width, height, rate_hz) + _chunk(b"LIST", b"".join(movi))
            + _chunk(b"idx1", b"".join(index)))
    Path(path).write_bytes(_chunk(b"RIFF", body))


def _children(data: bytes):
    """Chunks of a list body: (fourcc, payload, offset of the chunk)."""
    at = 0
    while at + 8 <= len(data):
        fourcc, size = data[at:at + 4], struct.unpack_from("<I", data, at + 4)[0]
        if at + 8 + size > len(data):
            raise ValueError(f"chunk {fourcc!r} at {at} is cut off")
        yield fourcc, data[at + 8:at + 8 + size], at
        at += 8 + size + (size & 1)


def read(path: Path) -> list[bytes]:
    """The JPEG frames of a file written by write(); checks the index against the frames."""
    (riff, body, _), = _children(Path(path).read_bytes())
    if riff != b"RIFF" or body[:4] != b"AVI ":
        raise ValueError(f"{path}: no AVI file")
    frames, places, index = [], [], b""
    for fourcc, payload, _ in _children(body[4:]):
        if fourcc == b"LIST" and payload[:4] == b"movi":
            for kind, frame, at in _children(payload[4:]):
                if kind == _FRAME_ID:
                    frames.append(frame)
                    places.append((at + 4, len(frame)))
        elif fourcc == b"idx1":
            index = payload
    if [entry[2:] for entry in struct.iter_unpack("<4sIII", index)] != places:
        raise ValueError(f"{path}: idx1 does not match the frames")
    return frames
