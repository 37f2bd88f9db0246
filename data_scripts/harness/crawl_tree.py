"""The tree of requests that a walk over an archive makes, and what must hold of it as a whole."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from data_scripts.harness.archive import Answer, Request, Stage, TableConfig
from data_scripts.harness.call_parser import call_parser


__all__ = [
    "Crawl",
    "Failure",
    "Identity",
    "Node",
    "has_rows",
    "in_order",
    "repeated_nodes",
    "same_rows",
    "wrong_total",
]

Identity = tuple[str, str, tuple[tuple[str, str], ...]]


# Without a repr: that of one node would have all others in it, and asyncio makes one of a task's result.
@dataclass(eq=False, repr=False)
class Node:
    """One request of a walk.

    Attributes:
        request: The question.
        parent: Node whose body asked for it, or None for a first request.
        pages: Numbers of the earlier pages of its chain, which is of one stage, by key and by SHA-256.
        number: Number of the page in that chain.
        answer: The answer; None until there is one.
        children: What the body asked for, in order.
        total: Rows that the archive says there are from here on.
        rows: Rows of the answer, rejected ones too; None if it was not read yet.
        good_rows: Of those, rows that were not rejected.
        fetched: Whether the archive was asked for it in this walk.
        refused: SHA-256 of the last body that was refused.
    """

    request: Request
    parent: "Node | None" = None
    pages: dict[str, int] = field(default_factory=dict)
    number: int = 1
    answer: Answer | None = None
    children: "list[Node]" = field(default_factory=list)
    total: int | None = None
    rows: int | None = None
    good_rows: int = 0
    fetched: bool = False
    refused: str = ""

    @property
    def confirmed(self) -> bool:
        """Whether the archive sent the same body when it was asked again."""
        return self.answer is not None and self.answer.sha256 == self.refused

    @property
    def identity(self) -> Identity:
        """Two nodes of one identity give the same rows."""
        return self.request.key, self.request.stage, self.request.context


@dataclass(frozen=True)
class Failure:
    """A request without an answer, in a build that goes on without it."""

    url: str
    reason: str
    key: str


@dataclass(frozen=True, repr=False)
class Crawl:
    """What a walk found.

    Attributes:
        nodes: Answered requests, in the order of the archive.
        failures: Requests that got no answer.
        whole: Whether nothing was left out, neither by a limit nor by a failure.
    """

    nodes: list[Node]
    failures: list[Failure]
    whole: bool

    @property
    def answers(self) -> list[Answer]:
        """The answers, in the order of the archive."""
        return [node.answer for node in self.nodes if node.answer is not None]


def in_order(roots: Sequence[Node], expanded: dict[Identity, Node]) -> list[Node]:
    """Return the answered nodes depth first, each identity once, with the children that any node of it has."""
    ordered: list[Node] = []
    seen: set[Identity] = set()
    waiting = list(roots[::-1])
    while waiting:
        node = waiting.pop()
        if node.answer is None or node.identity in seen:
            continue
        seen.add(node.identity)
        ordered.append(node)
        node.children = expanded[node.identity].children
        waiting.extend(reversed(node.children))
    return ordered


def has_rows(stage: Stage, answer: Answer) -> bool:
    """Return whether a body has a row; bodies that only lead to others have none."""
    return any(table.num_rows for table in _tables(stage, answer))


def same_rows(stage: Stage, one: Answer, other: Answer) -> bool:
    """Return whether one body answered two requests with the same rows.

    What was asked may be part of the rows: then one body can well answer two requests.
    """
    if one.sha256 != other.sha256 or one.request.key == other.request.key:
        return False
    return has_rows(stage, one) and _tables(stage, one) == _tables(stage, other)


def repeated_nodes(table: TableConfig, nodes: Sequence[Node]) -> list[Node]:
    """Return nodes whose answer another request got too, less those that got it twice."""
    alike: dict[tuple[str, str], list[Node]] = {}
    for node in nodes:
        if node.answer is not None and table.stages[node.request.stage].rows is not None:
            alike.setdefault((node.request.stage, node.answer.sha256), []).append(node)
    found = []
    for (stage, _), group in alike.items():
        if len(group) == 1:
            continue
        # Each is read once: an archive may send the same empty page for a thousand windows of time.
        read = [(node, _tables(table.stages[stage], node.answer)) for node in group if node.answer is not None]
        read = [(node, tables) for node, tables in read if any(each.num_rows for each in tables)]
        same = [
            node
            for node, tables in read
            if any(node.request.key != other.request.key and tables == others for other, others in read)
        ]
        found += [node for node in same if not node.confirmed] or same
    return found


def _tables(stage: Stage, answer: Answer) -> list[pa.Table]:
    rows = stage.rows
    return [] if rows is None else call_parser(lambda: list(rows(answer)))


def wrong_total(nodes: Sequence[Node]) -> tuple[list[Node], str] | None:
    """Find a chain whose rows are not as many as the archive says.

    The total that a body states is that of its own rows and of all that follows from it; pages that follow state it
    again, and the last of them counts. Chains with a body that was not read yet are left out.

    Returns:
        The nodes of the chain and what is wrong, or None.
    """
    first: dict[int, Node] = {}
    stated: dict[int, int] = {}
    for node in nodes:
        if node.total is not None:
            parent = node.parent
            of_chain = parent is not None and parent.request.stage == node.request.stage and id(parent) in first
            first[id(node)] = first[id(parent)] if of_chain else node
            stated[id(first[id(node)])] = node.total
    by_identity = {node.identity: node for node in nodes}
    for node in nodes:
        if id(node) in stated:
            below = in_order([node], by_identity)
            rows = sum(each.rows or 0 for each in below)
            if rows != stated[id(node)] and all(each.rows is not None for each in below):
                reason = f"the archive states {stated[id(node)]} rows and sent {rows} in {len(below)} bodies"
                return below, reason
    return None
