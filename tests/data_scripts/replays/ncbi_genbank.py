"""NCBI's E-utilities: ESearch for accessions, then EFetch of batches of GenBank flat files."""

import datetime
import re
from typing import Any
from urllib.parse import parse_qs

from replay import Asked, Replay, Reply


TERM = "test[organism]"
ORGANISMS = (
    ("Testella prima str. 37", "Testella prima", 900001, ["Bacteria", "Testota", "Testella"]),
    ("Testella secunda", "Testella secunda", 900002, ["Bacteria", "Testota", "Testella"]),
    ("uncultured testote bacterium", "uncultured testote bacterium", 900003, ["Bacteria", "Testota"]),
)
MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
FEATURES = ("source", "rRNA", "CDS")


def record(number: int) -> dict[str, Any]:
    organism, species, taxid, lineage = ORGANISMS[number % 3]
    day = datetime.date(2001 + number, 1 + number % 12, 1 + number)
    length = 61 + 37 * number
    # A master record has no letters.
    sequence = "".join("acgtn"[(number + 3 * at + at * at) % 5] for at in range(length)) if number != 4 else None
    return {
        "accession_version": f"TEST_{number:06}.{1 + number % 3}",
        "organism": organism,
        "species": species,
        "taxid": None if number == 5 else taxid,
        "molecule_type": "DNA" if number % 2 else "rRNA",
        "length": length,
        "locus": f"TEST_{number:06}",
        "definition": f"{organism} strain T{number} 16S ribosomal RNA, which is a definition that needs two lines",
        "taxonomy": lineage,
        "topology": "circular" if number % 4 == 3 else "linear",
        "division": "BCT",
        "date": day,
        "keywords": [] if number % 2 else ["RefSeq", "test loci"],
        "dblinks": [f"BioProject:PRJNA{number}", f"BioSample:SAMN{number:08}"] if number % 3 else [],
        "strain": None if number % 3 == 2 else f"T{number}",
        "isolation_source": f"hot spring {number}, 71 \u00b0C" if number % 2 else None,
        "geo_loc_name": "Iceland: Test" if number % 3 else None,
        "lat_lon": None,
        "collection_date": None,
        "organelle": None,
        "plasmid": f"pTest{number}" if number == 7 else None,
        "feature_type": list(FEATURES),
        "feature_location": [f"1..{length}", "complement(<3..>41)", f"join(2..11,21..{length - 7})"],
        "feature_gene": [None, "rrs", f"tst{number}"],
        "feature_locus_tag": [None, None, f"T_{number:04}"],
        "feature_product": [None, "16S ribosomal RNA", "testase"],
        "feature_protein_id": [None, None, f"TP_{number:06}.1"],
        "sequence": sequence,
    }


ROWS = [record(number) for number in range(13)]


def flat_file(row: dict[str, Any]) -> str:
    day = row["date"]
    lines = [
        f"LOCUS       {row['locus']:<16} {row['length']:>11} bp    {row['molecule_type']:<6}  {row['topology']:<8} "
        f"{row['division']} {day.day:02}-{MONTHS[day.month - 1]}-{day.year}",
        *_folded("DEFINITION", row["definition"] + "."),
        f"ACCESSION   {row['locus']}",
        f"VERSION     {row['accession_version']}",
    ]
    for position, link in enumerate(row["dblinks"]):
        lines.append(("DBLINK      " if position == 0 else " " * 12) + link.replace(":", ": "))
    lines += [
        f"KEYWORDS    {'; '.join(row['keywords'])}.",
        f"SOURCE      {row['organism']}",
        f"  ORGANISM  {row['organism']}",
        " " * 12 + "; ".join(row["taxonomy"]) + ".",
        "FEATURES             Location/Qualifiers",
    ]
    source = {
        "organism": row["organism"],
        "strain": row["strain"],
        "isolation_source": row["isolation_source"],
        # Older records say country.
        "country" if row["length"] % 2 else "geo_loc_name": row["geo_loc_name"],
        "plasmid": row["plasmid"],
        "db_xref": row["taxid"] and f"taxon:{row['taxid']}",
    }
    for position, (kind, location) in enumerate(zip(row["feature_type"], row["feature_location"], strict=True)):
        lines.append(f"     {kind:<16}{location}")
        qualifiers = source if kind == "source" else {}
        names = ("gene", "locus_tag", "product", "protein_id")
        qualifiers = qualifiers or {name: row[f"feature_{name}"][position] for name in names}
        lines += [f'{"":21}/{name}="{value}"' for name, value in qualifiers.items() if value]
    if row["sequence"] is None:
        lines.append("WGS         TEST01000001-TEST01000009")
    else:
        lines.append("ORIGIN")
        for at in range(0, row["length"], 60):
            line = row["sequence"][at : at + 60]
            lines.append(f"{at + 1:>9} " + " ".join(line[i : i + 10] for i in range(0, len(line), 10)))
    return "\n".join([*lines, "//", "", ""])


def _folded(name: str, text: str) -> list[str]:
    words, lines = text.split(), [f"{name:<11}"]
    for word in words:
        if len(lines[-1]) + len(word) > 78:
            lines.append(" " * 11)
        lines[-1] += f" {word}"
    return lines


def answer(asked: Asked) -> Reply:
    if asked.path == "/entrez/eutils/esearch.fcgi":
        assert asked.query["term"] == [TERM]
        assert asked.query["idtype"] == ["acc"]
        start, most = int(asked.query["retstart"][0]), int(asked.query["retmax"][0])
        ids = "".join(f"<Id>{row['accession_version']}</Id>\n" for row in ROWS[start : start + most])
        body = (
            '<?xml version="1.0" encoding="UTF-8" ?>\n'
            '<!DOCTYPE eSearchResult PUBLIC "-//NLM//DTD esearch 20060628//EN" '
            '"https://eutils.ncbi.nlm.nih.gov/eutils/dtd/20060628/esearch.dtd">\n'
            f"<eSearchResult><Count>{len(ROWS)}</Count><RetMax>{min(most, len(ROWS) - start)}</RetMax>"
            f"<RetStart>{start}</RetStart><IdList>\n{ids}</IdList><TranslationSet/></eSearchResult>\n"
        )
        return Reply(headers={"content-type": "text/xml; charset=UTF-8"}, body=body.encode())
    if asked.path == "/entrez/eutils/efetch.fcgi":
        form = parse_qs(asked.body.decode())
        wanted = form["id"][0].split(",")
        assert len(wanted) <= 5
        assert form["rettype"] == ["gbwithparts"]
        text = "".join(flat_file(row) for row in ROWS if row["accession_version"] in wanted)
        return Reply(headers={"content-type": "text/plain"}, body=text.encode())
    return Reply(status=404)


def changed_schema(reply: Reply) -> Reply:
    return Reply(reply.status, reply.headers, re.sub(rb"(?m)^VERSION .*\n", b"", reply.body))


ERROR_PAGE = Reply(
    headers={"content-type": "text/xml"},
    body=b'<?xml version="1.0" encoding="UTF-8" ?>\n<eEfetchResult>\n\t<ERROR>Unable to obtain query #1</ERROR>\n'
    b"</eEfetchResult>\n",
)
OPTIONS = {"term": TERM, "batch": "5"}
NAMES = ("accession_version", "organism", "species", "taxid", "molecule_type", "length")
RECORDS = [{name: value for name, value in row.items() if name != "sequence"} for row in ROWS]
SEQUENCES = [
    {**{name: row[name] for name in NAMES}, "sequence": row["sequence"] and row["sequence"].upper()} for row in ROWS
]

REPLAYS = [
    Replay("ncbi_genbank", "records", OPTIONS, answer, RECORDS, changed_schema, ERROR_PAGE),
    Replay("ncbi_genbank", "sequences", OPTIONS, answer, SEQUENCES, changed_schema, ERROR_PAGE),
]
