"""Whole tables over TAP: windows of one column that are halved until each holds few enough rows for one answer."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from data_scripts.archives.protocols.tap import count_rows, counted, select, tap_query, votable_rows
from data_scripts.harness.archive import Answer, Column, Option, Request, Selection, Stage
from data_scripts.harness.errors import BadBodyError, BuildError


__all__ = ["TapWindows"]

Bounds = tuple[int | None, int | None]


@dataclass(frozen=True)
class TapWindows:
    """How a table is asked for.

    The number of rows in a window is asked first, so that a truncated answer cannot pass for a whole one, and a window
    with more rows than `cap` is halved. Sorting by the server is not needed: some servers apply `top` before
    `order by`. Rows without a value in the column are a window of their own.

    Attributes:
        url: Address that ends in `/sync`.
        table: Table's name in ADQL.
        columns: Columns asked for.
        column: Column whose values the windows bound.
        literal: Writes a bound, a whole number, as the column's value: a number, or text that sorts like the bounds.
        start: Below it are few values, or none.
        stop: From it on are few values, or none.
        cap: Most rows of one answer, unless the option `page_rows` says another number.
        text: Whether the column is text.
        read: Reads an answer with rows.
        nullable: Whether rows without a value can exist.
    """

    url: str
    table: str
    columns: tuple[Column, ...]
    column: str
    literal: Callable[[int], str]
    start: int
    stop: int
    cap: int = 20_000
    text: bool = False
    read: Callable[[Answer], Iterable[pa.Table]] = votable_rows
    nullable: bool = True

    def options(self) -> dict[str, Option]:
        """Options of every table that is asked for in this way."""
        return {"page_rows": Option(str(self.cap), "Rows of one answer, at most")}

    def stages(self) -> dict[str, Stage]:
        """Stages by name: `count` and `half`, which count the rows of a window, and `window`, which has them.

        A window's halves are of the other stage than the window: each states a total of its own, where pages of one
        stage would state that of their chain.
        """
        return {
            "count": Stage("votable", follow=self.follow, total=counted),
            "half": Stage("votable", follow=self.follow, total=counted),
            "window": Stage("votable", rows=self.rows),
        }

    def first(self, selection: Selection, where: str = "") -> Iterator[Request]:
        """First requests: a few rows at once, or how many there are in each of the first windows.

        Args:
            selection: What is wanted.
            where: Condition in ADQL that all rows meet.

        Raises:
            BuildError: If the option `page_rows` is not a number above 0.
        """
        cap = selection.options.get("page_rows", str(self.cap))
        if not cap.isdecimal() or int(cap) == 0:
            raise BuildError(f"page_rows must be a number above 0; got {cap!r}. Leave it out for {self.cap}.")
        if selection.limit is not None and selection.limit <= int(cap):
            adql = select(self.columns, self.table, where, selection.limit)
            yield tap_query(self.url, adql, "window", release=selection.release)
            return
        for bounds in ((None, self.start), (self.start, self.stop), (self.stop, None)):
            yield self._count(bounds, (("where", where), ("cap", cap)), selection.release)
        if self.nullable:
            yield self._count((None, None), (("where", where), ("cap", cap)), selection.release)

    def follow(self, answer: Answer) -> list[Request]:
        """What the count of a window asks for: nothing, its rows, or the counts of its halves."""
        rows, (low, high) = counted(answer), _bounds(answer.request)
        if rows == 0:
            return []
        context, release = answer.request.context, answer.request.release
        if rows > int(dict(context)["cap"]) and low is not None and high is not None and high - low > 1:
            middle = (low + high) // 2
            stage = "count" if answer.request.stage == "half" else "half"
            return [self._count(half, context[2:], release, stage) for half in ((low, middle), (middle, high))]
        adql = select(self.columns, self.table, self._where((low, high), dict(context)["where"]))
        return [tap_query(self.url, adql, "window", release=release, context=(*context, ("rows", str(rows))))]

    def rows(self, answer: Answer) -> Iterable[pa.Table]:
        """Read a window.

        Raises:
            BadBodyError: If it has another number of rows than was counted, or rows of another window.
        """
        context = dict(answer.request.context)
        tables = list(self.read(answer))
        read = sum(table.num_rows for table in tables)
        if "rows" in context and read != int(context["rows"]):
            raise BadBodyError(f"{self.table} has {context['rows']} rows in this window; got {read}", again=True)
        for table in tables:
            if "rows" in context and self.column in table.column_names:
                self._check_window(table, _bounds(answer.request))
        return tables

    def _count(
        self, bounds: Bounds, asked: tuple[tuple[str, str], ...], release: str, stage: str = "count"
    ) -> Request:
        low, high = ("" if bound is None else str(bound) for bound in bounds)
        adql = count_rows(self.table, self._where(bounds, dict(asked)["where"]))
        return tap_query(self.url, adql, stage, release=release, context=(("low", low), ("high", high), *asked))

    def _where(self, bounds: Bounds, where: str) -> str:
        low, high = bounds
        terms = [] if low is None else [f"{self.column} >= {self._quoted(low)}"]
        terms += [] if high is None else [f"{self.column} < {self._quoted(high)}"]
        return " and ".join([*([where] if where else []), *(terms or [f"{self.column} is null"])])

    def _quoted(self, bound: int) -> str:
        return f"'{self.literal(bound)}'" if self.text else self.literal(bound)

    def _check_window(self, table: pa.Table, bounds: Bounds) -> None:
        values = pc.drop_null(table.column(self.column).cast(pa.string() if self.text else pa.float64()))
        low, high = bounds
        if low is None and high is None:
            outside = len(values)
        else:
            literals = [None if bound is None else self.literal(bound) for bound in bounds]
            least, greatest = (text if self.text or text is None else float(text) for text in literals)
            outside = 0 if least is None else pc.sum(pc.less(values, least)).as_py() or 0
            outside += 0 if greatest is None else pc.sum(pc.greater_equal(values, greatest)).as_py() or 0
            outside += table.num_rows - len(values)
        if outside:
            raise BadBodyError(f"{outside} rows of {self.table} are of another window than was asked for", again=True)


def _bounds(request: Request) -> Bounds:
    context = dict(request.context)
    low, high = (int(context[name]) if context[name] else None for name in ("low", "high"))
    return low, high
