"""NCBI's E-utilities: a search for accessions, then the records by their accessions.

The parameters are those of https://www.ncbi.nlm.nih.gov/books/NBK25499/. Searches could keep their result on NCBI's
history server (`usehistory=y`), and batches could be asked for by `WebEnv` and `query_key`. A `WebEnv` is another one
each time and is forgotten after some hours, so that a walk which goes on the next day would have to begin again, and a
kept body could not be found by its request. Here the search lists accessions with versions, and a batch is asked for
by its accessions: its request, and the body too, are the same each time.
"""

import datetime
from urllib.parse import parse_qs, urlencode
from xml.etree import ElementTree

from data_scripts.harness.archive import Answer, Request
from data_scripts.harness.errors import BadBodyError


__all__ = ["asked_accessions", "search_request", "search_total", "search_follow"]

EUTILS = "https://eutils.ncbi.nlm.nih.gov/entrez/eutils/"
TOOL = ("tool", "modeling_astrobio")
# The most that ESearch lists at once.
MOST_PER_SEARCH = 10_000
# What ESearch says within a result: an error, or a part of the query that it left out.
FAULTS = ("ERROR", "PhraseNotFound", "FieldNotFound", "PhraseIgnored", "QuotedPhraseNotFound")


def search_request(
    db: str, term: str, batch: int, limit: int | None = None, since: datetime.date | None = None
) -> Request:
    """Ask for the first page of accessions.

    Args:
        db: Entrez database of sequences.
        term: Query in Entrez's language.
        batch: Records that are asked for at once.
        limit: Most records wanted.
        since: Day from which on records were modified.
    """
    dates = (
        (("datetype", "mdat"), ("mindate", since.strftime("%Y/%m/%d")), ("maxdate", "3000"))
        if since is not None
        else ()
    )
    retmax = min(MOST_PER_SEARCH, limit) if limit is not None else MOST_PER_SEARCH
    return Request(
        EUTILS + "esearch.fcgi",
        "search",
        params=(
            ("db", db),
            ("term", term),
            ("idtype", "acc"),
            ("retmode", "xml"),
            ("retstart", "0"),
            ("retmax", str(retmax)),
            *dates,
            TOOL,
        ),
        context=(("batch", str(batch)),),
    )


def search_follow(answer: Answer) -> list[Request]:
    """Ask for the records of a page of accessions, in batches, and for the next page."""
    result = _result(answer)
    asked = dict(answer.request.params)
    context = dict(answer.request.context)
    accessions = [element.text or "" for element in result.iterfind("IdList/Id")]
    start, count = int(asked["retstart"]), _number(result, "Count")
    if _number(result, "RetStart") != start:
        raise BadBodyError(f"ESearch must answer from retstart={start}; got {_number(result, 'RetStart')}", again=True)
    if "count" in context and count != int(context["count"]):
        raise BadBodyError(
            f"the search found {context['count']} records on its first page and {count} on this: the archive changed "
            "meanwhile. Build with --max-age-days 0 to search anew",
        )
    expected = min(int(asked["retmax"]), max(count - start, 0))
    if len(accessions) != expected:
        raise BadBodyError(f"ESearch must list {expected} accessions of {count}; got {len(accessions)}", again=True)
    size = int(context["batch"])
    requests = [_fetch(asked["db"], accessions[first : first + size]) for first in range(0, len(accessions), size)]
    if start + len(accessions) < count:
        following = str(start + len(accessions))
        params = tuple((name, following if name == "retstart" else value) for name, value in answer.request.params)
        context["count"] = str(count)
        requests.append(Request(answer.request.url, "search", params=params, context=tuple(context.items())))
    return requests


def search_total(answer: Answer) -> int | None:
    """Records that the search found, stated once, on its first page."""
    return _number(_result(answer), "Count") if dict(answer.request.params).get("retstart") == "0" else None


def asked_accessions(answer: Answer) -> list[str]:
    """Accessions that a batch was asked for; none for a file that was not asked for here."""
    return parse_qs(answer.request.body.decode()).get("id", [""])[0].split(",") if answer.request.body else []


def _fetch(db: str, accessions: list[str]) -> Request:
    # `gbwithparts` has the letters of assembled records too, which `gb` leaves out. POST is asked for above 200.
    form = {"db": db, "id": ",".join(accessions), "rettype": "gbwithparts", "retmode": "text", TOOL[0]: TOOL[1]}
    return Request(
        EUTILS + "efetch.fcgi",
        "records",
        method="POST",
        body=urlencode(form).encode(),
        content_type="application/x-www-form-urlencoded",
    )


def _result(answer: Answer) -> ElementTree.Element:
    try:
        root = ElementTree.fromstring(answer.body)
    except ElementTree.ParseError as error:
        raise BadBodyError(f"the answer of ESearch does not parse: {error}", again=True) from error
    stated = [f"{element.tag} {element.text or ''}".strip() for element in root.iter() if element.tag in FAULTS]
    if root.tag != "eSearchResult" or stated:
        raise BadBodyError(f"ESearch refused: {'; '.join(stated) or f'the body is {root.tag}'}", again=not stated)
    return root


def _number(result: ElementTree.Element, name: str) -> int:
    text = result.findtext(name)
    if text is None or not text.strip().isdigit():
        raise BadBodyError(f"ESearch must state {name}; got {text!r}")
    return int(text)
