"""Small files that are written whole or not at all."""

import json
import os
from pathlib import Path
from typing import Any


__all__ = ["PARTIAL_SUFFIX", "write_json_whole", "write_text_whole"]


PARTIAL_SUFFIX = ".partial"


def write_text_whole(path: Path, text: str) -> None:
    """Write a text in UTF-8; whoever reads the path finds the old one or the new one, whatever stops the writing."""
    partial = path.with_name(path.name + PARTIAL_SUFFIX)
    try:
        with partial.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def write_json_whole(path: Path, content: Any) -> None:
    """Write JSON in the same way, one space deep and with a line's end."""
    write_text_whole(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
