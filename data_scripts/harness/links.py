"""Where a body leads: the requests that follow from it, and how many rows the archive says there are."""

import dataclasses
import json
from dataclasses import dataclass

from data_scripts.harness.archive import Answer, Request, TableConfig
from data_scripts.harness.call_parser import call_parser


__all__ = ["Links", "read_links"]


@dataclass(frozen=True)
class Links:
    """What of a body the walk over an archive needs.

    Attributes:
        total: Rows that the archive states, or None.
        requests: What is asked next, in order.
    """

    total: int | None
    requests: tuple[Request, ...]

    def to_json(self) -> str:
        """Write as JSON."""
        return json.dumps(
            {
                "total": self.total,
                "requests": [{**dataclasses.asdict(each), "body": each.body.hex()} for each in self.requests],
            }
        )

    @classmethod
    def from_json(cls, text: str) -> "Links":
        """Read what `to_json` wrote."""
        content = json.loads(text)
        return cls(content["total"], tuple(_request(each) for each in content["requests"]))


def read_links(table: TableConfig, answer: Answer) -> Links:
    """Read the links of a body.

    Raises:
        BadBodyError: If the body is not what its stage needs.
    """
    stage = table.stages[answer.request.stage]
    total = None if stage.total is None else call_parser(stage.total, answer)
    follow = stage.follow
    return Links(total, () if follow is None else call_parser(lambda: tuple(follow(answer))))


def _request(each: dict[str, object]) -> Request:
    pairs = {name: tuple(tuple(pair) for pair in each[name]) for name in ("params", "context")}  # type: ignore[attr-defined]
    return Request(**{**each, **pairs, "body": bytes.fromhex(str(each["body"]))})  # type: ignore[arg-type]
