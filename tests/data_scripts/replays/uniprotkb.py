"""UniProt's REST service: a search whose pages hang together by cursors in the Link header."""

import datetime
import json
from typing import Any

from replay import Asked, Replay, Reply


QUERY = "organism_name:testella"
PER_PAGE = 5
ADDRESS = "https://rest.uniprot.org/uniprotkb/search"


def entry(number: int) -> dict[str, Any]:
    day = datetime.date(2004, 5, 1) + datetime.timedelta(days=37 * number)
    length = 37 + 7 * number
    return {
        "accession": f"T0TE{number:02}",
        "id": f"TST{number}_TESTP",
        "secondary_accessions": ["T9TE99"] if number == 3 else [],
        "reviewed": number % 4 != 1,
        "protein_name": f"Testase {number} \u03b2",
        "gene_names": [] if number % 3 == 0 else [f"tst{number}", "tstX", f"T_{number:04}"],
        "organism_name": "Testella prima (strain 37)" if number % 2 else "Testella secunda",
        "organism_id": 900037 if number % 2 else 900002,
        "species": "Testella prima" if number % 2 else "Testella secunda",
        "lineage": ["Bacteria", "Testota", "Testella"],
        "ec": ["1.2.3.4", "2.7.1.-"] if number % 3 == 1 else [],
        "protein_existence": 1 + number % 5,
        "annotation_score": 0.5 * (number % 10),
        "keyword": ["ATP-binding", "Test"][: number % 3],
        "go_id": ["GO:0000001"] if number % 2 else [],
        "cc_function": "Tests \u03b1-things. And others (PubMed:1)" if number % 2 else None,
        "version": 1 + number,
        "date_created": day,
        "date_modified": day + datetime.timedelta(days=730),
        "date_sequence_modified": day,
        "sequence_version": 1 + number % 2,
        "length": length,
        "mass": 110 * length,
        "crc64": f"{number:016X}",
        "sequence": "".join("ACDEFGHIKLMNPQRSTVWY"[(at * at + number) % 20] for at in range(length)),
    }


ENTRIES = [entry(number) for number in range(13)]


def activities(row: dict[str, Any], number: int) -> list[dict[str, Any]]:
    shared = {name: row[name] for name in ("accession", "id", "reviewed", "organism_name", "organism_id", "species")}
    return [
        {
            **shared,
            "activity": at,
            "reaction": f"ATP + test {number} = ADP + H(+) + test {at} 5'-phosphate",
            "rhea_id": None if at == 2 else f"RHEA:{10000 + 4 * number + at}",
            "chebi_ids": [] if at == 2 else ["CHEBI:15378", "CHEBI:30616", f"CHEBI:{456000 + number}"],
            "rhea_compounds": ["RHEA-COMP:9613"] if at == 1 else [],
            "ec_number": "2.7.1.99" if at == 0 else None,
            "direction": [["left-to-right"], ["left-to-right", "right-to-left"], []][at],
            "direction_rhea_id": [["RHEA:77777"], ["RHEA:77777", None], []][at],
            "molecule": "Isoform 2" if at == 1 else None,
            "evidence": [["ECO:0000269", "ECO:0000305"], [], ["ECO:0000255"]][at],
        }
        # One page of entries has no activities at all.
        for at in range(0 if 5 <= number < 10 else number % 4)
    ]


ACTIVITIES = [row for number, found in enumerate(ENTRIES) for row in activities(found, number)]


def as_sent(row: dict[str, Any], number: int) -> dict[str, Any]:
    names = {"fullName": {"value": row["protein_name"]}}
    if row["ec"]:
        names["ecNumbers"] = [{"value": value} for value in row["ec"]]
    kind = "recommendedName" if row["reviewed"] else "submissionNames"
    sent: dict[str, Any] = {
        "entryType": f"UniProtKB {'reviewed (Swiss-Prot)' if row['reviewed'] else 'unreviewed (TrEMBL)'}",
        "primaryAccession": row["accession"],
        "uniProtkbId": row["id"],
        "entryAudit": {
            "firstPublicDate": str(row["date_created"]),
            "lastAnnotationUpdateDate": str(row["date_modified"]),
            "lastSequenceUpdateDate": str(row["date_sequence_modified"]),
            "entryVersion": row["version"],
            "sequenceVersion": row["sequence_version"],
        },
        "annotationScore": row["annotation_score"],
        "organism": {
            "scientificName": row["organism_name"],
            "taxonId": row["organism_id"],
            "lineage": row["lineage"],
        },
        "proteinExistence": f"{row['protein_existence']}: In words",
        "proteinDescription": {kind: names if row["reviewed"] else [names]},
        "sequence": {
            "value": row["sequence"],
            "length": row["length"],
            "molWeight": row["mass"],
            "crc64": row["crc64"],
            "md5": "0" * 32,
        },
    }
    if row["secondary_accessions"]:
        sent["secondaryAccessions"] = row["secondary_accessions"]
    if row["gene_names"]:
        main, synonym, locus = row["gene_names"]
        sent["genes"] = [
            {"geneName": {"value": main}, "synonyms": [{"value": synonym}], "orderedLocusNames": [{"value": locus}]}
        ]
    if row["keyword"]:
        sent["keywords"] = [{"id": "KW-0001", "category": "Ligand", "name": name} for name in row["keyword"]]
    if row["go_id"]:
        sent["uniProtKBCrossReferences"] = [{"database": "GO", "id": name} for name in row["go_id"]]
    comments = [comment_of(activity) for activity in activities(row, number)]
    if row["cc_function"]:
        texts = [{"value": "Tests \u03b1-things."}, {"value": "And others (PubMed:1)"}]
        comments.insert(0, {"commentType": "FUNCTION", "texts": texts})
    return {**sent, "comments": comments} if comments else sent


def comment_of(activity: dict[str, Any]) -> dict[str, Any]:
    reaction: dict[str, Any] = {"name": activity["reaction"]}
    references = [("Rhea", name) for name in (activity["rhea_id"], *activity["rhea_compounds"]) if name]
    references += [("ChEBI", name) for name in activity["chebi_ids"]]
    if references:
        reaction["reactionCrossReferences"] = [{"database": kind, "id": name} for kind, name in references]
    if activity["ec_number"]:
        reaction["ecNumber"] = activity["ec_number"]
    if activity["evidence"]:
        reaction["evidences"] = [{"evidenceCode": code, "source": "PubMed"} for code in activity["evidence"]]
    comment: dict[str, Any] = {"commentType": "CATALYTIC ACTIVITY", "reaction": reaction}
    if activity["molecule"]:
        comment["molecule"] = activity["molecule"]
    pairs = zip(activity["direction"], activity["direction_rhea_id"], strict=True)
    directions = [
        {"directionType": kind, **({"reactionCrossReference": {"database": "Rhea", "id": name}} if name else {})}
        for kind, name in pairs
    ]
    return {**comment, "physiologicalReactions": directions} if directions else comment


def answer(asked: Asked) -> Reply:
    if asked.path != "/uniprotkb/search":
        return Reply(status=404)
    assert asked.query["query"] == [QUERY]
    assert "cc_catalytic_activity" in asked.query["fields"][0]
    start = int(asked.query.get("cursor", ["c0"])[0].removeprefix("c"))
    found = [as_sent(row, start + at) for at, row in enumerate(ENTRIES[start : start + PER_PAGE])]
    headers = {
        "content-type": "application/json",
        "x-total-results": str(len(ENTRIES)),
        "x-uniprot-release": "2020_01",
    }
    if start + PER_PAGE < len(ENTRIES):
        query = f"query=organism_name%3Atestella&format=json&fields={asked.query['fields'][0].replace(',', '%2C')}"
        headers["link"] = f'<{ADDRESS}?{query}&cursor=c{start + PER_PAGE}&size=500>; rel="next"'
    return Reply(headers=headers, body=json.dumps({"results": found}, ensure_ascii=False).encode())


def changed_schema(reply: Reply) -> Reply:
    return Reply(reply.status, reply.headers, reply.body.replace(b'"uniProtkbId"', b'"entryName"'))


ERROR_PAGE = Reply(
    headers={"content-type": "application/json"},
    body=b'{"url":"http://rest.uniprot.org/uniprotkb/search","messages":["Internal server error"]}',
)

REPLAYS = [
    Replay("uniprotkb", "entries", {"query": QUERY}, answer, ENTRIES, changed_schema, ERROR_PAGE),
    Replay("uniprotkb", "catalytic_activities", {"query": QUERY}, answer, ACTIVITIES, changed_schema, ERROR_PAGE),
]
