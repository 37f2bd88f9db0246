"""Addresses of an archive: which may be asked, what stands in for them, and the parameters they carry."""

from collections.abc import Iterable, Mapping
from urllib.parse import quote, urlencode, urlsplit

from data_scripts.harness.archive import Archive
from data_scripts.harness.errors import BuildError


__all__ = ["Addresses", "origin_of", "with_params"]


class Addresses:
    """The hosts of an archive, and mirrors of them.

    Args:
        archive: Its hosts.
        mirrors: Origins to ask instead, such as `{"https://archive.org": "http://127.0.0.1:8000"}`.
    """

    def __init__(self, archive: Archive, mirrors: Mapping[str, str]) -> None:
        self._archive = archive
        self._mirrors = {origin.rstrip("/"): mirror.rstrip("/") for origin, mirror in mirrors.items()}
        self._allowed = {host.lower() for host in archive.hosts}
        self._allowed |= {urlsplit(mirror).netloc.lower() for mirror in self._mirrors.values()}

    def check(self, url: str) -> None:
        """Refuse an address that is not the archive's.

        Raises:
            BuildError: If it is not http(s), or on another host.
        """
        try:
            parts = urlsplit(url)
        except ValueError as error:
            raise BuildError(f"{self._archive.name}: an address must be http(s); got {url!r}: {error}.") from None
        if parts.scheme not in {"http", "https"} or parts.netloc.lower() not in self._allowed:
            raise BuildError(
                f"{self._archive.name}: an address must be http(s) and on one of {', '.join(self._archive.hosts)}; "
                f"got {parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}."
            )

    def mirrored(self, url: str) -> tuple[str, dict[str, str]]:
        """Return the address to ask, and headers that tell a mirror which host it stands in for."""
        origin = origin_of(url)
        if origin not in self._mirrors:
            return url, {}
        return self._mirrors[origin] + url[len(origin) :], {"X-Forwarded-Host": urlsplit(url).netloc}


def origin_of(url: str) -> str:
    """Return scheme, host and port of an address."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def with_params(url: str, params: Iterable[tuple[str, str]]) -> str:
    """Add parameters to an address, in place of any of the same name that it has; a name may come several times."""
    pairs = list(params)
    if not pairs:
        return url
    names = {quote(name, safe="") for name, _ in pairs}
    address, _, query = url.partition("?")
    kept = [part for part in query.split("&") if part and part.partition("=")[0] not in names]
    return f"{address}?{'&'.join([*kept, urlencode(pairs, quote_via=quote)])}"
