"""Checks of XML documents and VOTables as streams."""

import abc
import xml.parsers.expat
from typing import BinaryIO

from data_scripts.harness.errors import BadBodyError


__all__ = ["check_votable", "check_xml"]

_CHUNK = 1 << 18  # bytes
_SHOWN = 300  # characters of an error message
# Roots and elements by which the archives tell of an error: E-utilities, OGC services, object stores.
_ERROR_ROOTS = frozenset({"error", "errors", "eerror", "exceptionreport", "serviceexceptionreport", "html"})
_ERROR_ELEMENTS = frozenset({"ERROR", "Error", "error"})
_DEEPEST_ERROR = 2


def check_xml(file: BinaryIO) -> None:
    """Refuse what is no XML to its end, or an error document.

    Raises:
        BadBodyError: If the root is one of an error, or an element `ERROR` with text is the root's child.
    """
    _ErrorFinder().parse(file)


def check_votable(file: BinaryIO) -> None:
    """Refuse what is no VOTable to its end, or one whose QUERY_STATUS is ERROR or OVERFLOW (DALI 1.1, section 4.4).

    Raises:
        BadBodyError: With the archive's message.
    """
    finder = _QueryStatusFinder()
    finder.parse(file)
    if finder.failure is not None:
        raise finder.failure


class _Reader(abc.ABC):
    """Goes through a document with expat; subclasses look at the start and end of elements."""

    def __init__(self) -> None:
        self._path: list[str] = []
        self._text: list[str] | None = None
        self._parser = xml.parsers.expat.ParserCreate()
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end

    def parse(self, file: BinaryIO) -> None:
        try:
            while chunk := file.read(_CHUNK):
                self._parser.Parse(chunk, False)
            self._parser.Parse(b"", True)
        except xml.parsers.expat.ExpatError as error:
            raise BadBodyError(f"the XML is cut or damaged: {error}", again=True) from error

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._path.append(name.rpartition(":")[2])
        self.start(attributes)

    def _end(self, name: str) -> None:
        self.end()
        self._path.pop()

    def _collect(self) -> None:
        """Keep the text from here on; only then, because a call for each cell of a table takes long."""
        if self._text is None:
            self._text = []
            self._parser.CharacterDataHandler = self._characters

    def _characters(self, text: str) -> None:
        if self._text is not None and sum(map(len, self._text)) < _SHOWN:
            self._text.append(text)

    def _collected(self) -> str:
        text = " ".join("".join(self._text or []).split())[:_SHOWN]
        self._text = None
        self._parser.CharacterDataHandler = None
        return text

    @abc.abstractmethod
    def start(self, attributes: dict[str, str]) -> None:
        """Take the beginning of the element at the end of `_path`."""

    @abc.abstractmethod
    def end(self) -> None:
        """Take the end of the element at the end of `_path`."""


class _ErrorFinder(_Reader):
    def start(self, attributes: dict[str, str]) -> None:
        depth = len(self._path)
        is_error = depth == 1 and self._path[0].lower() in _ERROR_ROOTS
        if is_error or (1 < depth <= _DEEPEST_ERROR and self._path[-1] in _ERROR_ELEMENTS):
            self._collect()

    def end(self) -> None:
        depth = len(self._path)
        if self._text is None or depth > _DEEPEST_ERROR:
            return
        if depth == 1:
            raise BadBodyError(f"the archive answered with <{self._path[0]}>: {self._collected()!r}", again=True)
        if self._path[0].lower() not in _ERROR_ROOTS and (message := self._collected()):
            raise BadBodyError(f"the archive answered with <{self._path[-1]}>: {message!r}", again=True)


class _QueryStatusFinder(_Reader):
    def __init__(self) -> None:
        super().__init__()
        self.failure: BadBodyError | None = None
        self._status = ""

    def start(self, attributes: dict[str, str]) -> None:
        if len(self._path) == 1 and self._path[0] != "VOTABLE":
            raise BadBodyError(f"the body is <{self._path[0]}> instead of a VOTable", again=True)
        if self._path[-1] == "INFO" and attributes.get("name", "").upper() == "QUERY_STATUS":
            self._status = attributes.get("value", "").upper()
            self._collect()

    def end(self) -> None:
        if self._path[-1] != "INFO" or self._text is None:
            return
        message = self._collected()
        if self._status == "OVERFLOW":
            self.failure = BadBodyError(f"the archive cut the table at its row limit (OVERFLOW): {message!r}")
        elif self._status == "ERROR":
            self.failure = BadBodyError(f"the archive answered with an error: {message!r}", again=True)
