"""Four scores of a table, each the mean of what could be judged; nothing judged is no score, never a perfect one."""

import math
from dataclasses import dataclass

from data_scripts.harness.archive import TableConfig
from data_scripts.harness.assemble import TableQuality
from data_scripts.harness.quality.agreement import Agreement


__all__ = ["Part", "Score", "Scores", "score_table", "share_text"]


@dataclass(frozen=True)
class Part:
    """A share of things that are right.

    Attributes:
        name: What was judged.
        right: How many are right.
        judged: Of how many.
    """

    name: str
    right: int
    judged: int

    @property
    def share(self) -> float | None:
        """Share that is right, or None if nothing was judged."""
        return self.right / self.judged if self.judged else None


@dataclass(frozen=True)
class Score:
    """A score and what it is made of."""

    name: str
    parts: tuple[Part, ...]

    @property
    def value(self) -> float | None:
        """Mean over the parts that were judged, or None if none was."""
        return _mean([part.share for part in self.parts])


@dataclass(frozen=True)
class Scores:
    """The scores of a table.

    Attributes:
        completeness: Share of the cells of required columns that are not null, over all rows read.
        consistency: Rows whose key is theirs alone; cells of their column's type; values that another archive states
            too.
        accuracy: Cells within what is physically possible, and rows in which each identity holds.
        validity: Share of the rows read that pass the schema.
    """

    completeness: Score
    consistency: Score
    accuracy: Score
    validity: Score

    @property
    def all(self) -> tuple[Score, ...]:
        """The four."""
        return (self.completeness, self.consistency, self.accuracy, self.validity)

    @property
    def overall(self) -> float | None:
        """Mean of the scores that there are."""
        return _mean([score.value for score in self.all])


def score_table(table: TableQuality, config: TableConfig, agreement: Agreement | None = None) -> Scores:
    """Score a table.

    Args:
        table: What is known of it.
        config: Its schema; `required` and the bounds are taken from here.
        agreement: Comparison with another archive, if there is one.
    """
    tallies = table.tallies
    required = [tallies.columns[column.name] for column in config.columns if column.required and tallies.columns]
    columns = tallies.columns.values()
    passed = tallies.rows - tallies.rejected
    consistency = [
        Part("rows with a key of their own", passed - table.duplicates, passed),
        Part(
            "cells of their column's type",
            sum(each.stated - each.unconverted for each in columns),
            sum(each.stated for each in columns),
        ),
    ]
    if agreement is not None:
        consistency.append(Part(f"values that agree with {agreement.right}", agreement.agree, agreement.judged))
    accuracy = [
        Part(
            "cells within their bounds",
            sum(each.judged - each.outside for each in columns),
            sum(each.judged for each in columns),
        )
    ]
    accuracy += [Part(name, tally.held, tally.judged) for name, tally in tallies.identities.items()]
    return Scores(
        completeness=Score(
            "completeness",
            (
                Part(
                    "required cells that are not null",
                    sum(each.stated for each in required),
                    sum(each.cells for each in required),
                ),
            ),
        ),
        consistency=Score("consistency", tuple(consistency)),
        accuracy=Score("accuracy", tuple(accuracy)),
        validity=Score("validity", (Part("rows that pass the schema", passed, tallies.rows),)),
    )


def share_text(share: float | None) -> str:
    """Write a share with four digits, cut and not rounded, so that 0.99996 does not read as 1."""
    # A product such as 0.57 * 10,000 may lie a hair below the number that is meant.
    return "not judged" if share is None else f"{math.floor(share * 10_000 + 1e-9) / 10_000:.4f}"


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
