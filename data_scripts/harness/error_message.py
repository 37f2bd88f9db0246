"""What an archive says with a status of an error."""

import re

import httpx


__all__ = ["message_of"]

_MOST_READ = 1 << 16  # bytes
_SHOWN = 200  # characters
_NOT_SHOWN = re.compile(r"<(script|style)\b.*?</\1>|<!--.*?-->|<[^>]*>", re.I | re.S)


async def message_of(response: httpx.Response) -> str:
    """Return the first 200 characters of the text of an answer, without markup.

    Args:
        response: Answer whose body has not been read; its connection is not to be used again.
    """
    data = b""
    try:
        async for chunk in response.aiter_bytes():
            data += chunk
            if len(data) >= _MOST_READ:
                break
    except httpx.DecodingError:
        return "(the message cannot be decoded)"
    return " ".join(_NOT_SHOWN.sub(" ", data.decode(errors="replace")).split())[:_SHOWN]
