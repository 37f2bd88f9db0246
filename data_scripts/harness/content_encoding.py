"""The content encoding that a body was sent with, taken off on disk."""

import zlib
from pathlib import Path

from data_scripts.harness.archive import BodyFormat
from data_scripts.harness.errors import BadBodyError


__all__ = ["ACCEPTED_ENCODINGS", "decode_body"]

# What is compressed or binary already is asked for as it is.
ACCEPTED_ENCODINGS: dict[BodyFormat, str] = {"fits": "identity", "gzip": "identity", "zip": "identity"}

_CHUNK = 1 << 20  # bytes
_GZIP_MAGIC = b"\x1f\x8b"
# 16 makes zlib read the header of gzip.
_WINDOW_BITS = {"gzip": 16 + zlib.MAX_WBITS, "x-gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}


def decode_body(body: Path, decoded: Path, encoding: str, body_format: BodyFormat, most_bytes: int) -> bool:
    """Write what an encoded body encodes into another file.

    Args:
        body: Whole body.
        decoded: File to write.
        encoding: Its `Content-Encoding`, empty for none.
        body_format: Format that it must have.
        most_bytes: Bytes that it may unfold to.

    Returns:
        Whether it was encoded; if not, nothing is written.

    Raises:
        BadBodyError: If it is damaged or too large, or the encoding is unknown.
    """
    # Servers also label a file that is a gzip file with the encoding.
    if not encoding or (body_format == "gzip" and encoding in {"gzip", "x-gzip"}):
        return False
    if encoding not in _WINDOW_BITS:
        raise BadBodyError(f"the body has the content encoding {encoding!r}, which was not asked for", again=True)
    with body.open("rb") as source, decoded.open("wb") as target:
        decoder = zlib.decompressobj(_WINDOW_BITS[encoding])
        try:
            while chunk := source.read(_CHUNK):
                while chunk:
                    # Bounded, however much one chunk unfolds to.
                    target.write(decoder.decompress(chunk, _CHUNK))
                    if target.tell() > most_bytes:
                        raise BadBodyError(f"the body unfolds to more than {most_bytes} bytes")
                    chunk = decoder.unconsumed_tail
                    if decoder.eof and decoder.unused_data:
                        chunk = decoder.unused_data
                        decoder = zlib.decompressobj(_WINDOW_BITS[encoding])
        except zlib.error as error:
            raise BadBodyError(f"the content encoding {encoding} is damaged: {error}", again=True) from error
        if not decoder.eof:
            raise BadBodyError(f"the content encoding {encoding} is cut", again=True)
    return True
