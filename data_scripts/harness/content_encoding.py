"""The content encoding that a body was sent with, taken off on disk."""

import os
import zlib

from data_scripts.harness.archive import BodyFormat
from data_scripts.harness.errors import BadBodyError
from data_scripts.harness.partial_body import PartialBody


__all__ = ["ACCEPTED_ENCODINGS", "decode_body"]

# What is compressed or binary already is asked for as it is.
ACCEPTED_ENCODINGS: dict[BodyFormat, str] = {"fits": "identity", "gzip": "identity", "zip": "identity"}

_CHUNK = 1 << 20  # bytes
_GZIP_MAGIC = b"\x1f\x8b"
# 16 makes zlib read the header of gzip.
_WINDOW_BITS = {"gzip": 16 + zlib.MAX_WBITS, "x-gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}


def decode_body(body: PartialBody, encoding: str, body_format: BodyFormat) -> None:
    """Replace an encoded body by what it encodes; `body` then no longer knows how to go on.

    Args:
        body: Whole body.
        encoding: Its `Content-Encoding`, empty for none.
        body_format: Format that it must have.

    Raises:
        BadBodyError: If it is damaged or the encoding is unknown.
    """
    # Servers also label a file that is a gzip file with the encoding.
    if not encoding or (body_format == "gzip" and encoding in {"gzip", "x-gzip"}):
        return
    if encoding not in _WINDOW_BITS:
        raise BadBodyError(f"the body has the content encoding {encoding!r}, which was not asked for", again=True)
    decoded = body.path.with_name(body.path.name + ".decoded")
    with body.path.open("rb") as source, decoded.open("wb") as target:
        decoder = zlib.decompressobj(_WINDOW_BITS[encoding])
        try:
            while chunk := source.read(_CHUNK):
                while chunk:
                    # Bounded, however much one chunk unfolds to.
                    target.write(decoder.decompress(chunk, _CHUNK))
                    chunk = decoder.unconsumed_tail
                    if decoder.eof and decoder.unused_data:
                        chunk = decoder.unused_data
                        decoder = zlib.decompressobj(_WINDOW_BITS[encoding])
        except zlib.error as error:
            decoded.unlink()
            raise BadBodyError(f"the content encoding {encoding} is damaged: {error}", again=True) from error
        if not decoder.eof:
            decoded.unlink()
            raise BadBodyError(f"the content encoding {encoding} is cut", again=True)
    # First forgotten, then replaced: a kill in between must not leave decoded bytes that count as encoded ones.
    body.release()
    os.replace(decoded, body.path)
