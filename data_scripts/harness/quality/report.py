"""What the quality report of a data set says."""

from dataclasses import dataclass

from data_scripts.harness.archive import TableConfig
from data_scripts.harness.assemble import TableQuality
from data_scripts.harness.quality.agreement import Agreement
from data_scripts.harness.quality.gates import failed_gates
from data_scripts.harness.quality.scores import Scores, score_table


__all__ = ["QualityReport", "RefusedBody", "TableReport"]


@dataclass(frozen=True)
class RefusedBody:
    """An answer that was set aside.

    Attributes:
        url: Address asked, without query.
        reason: What is wrong with it.
        sha256: SHA-256 (hex) of the body.
    """

    url: str
    reason: str
    sha256: str


@dataclass(frozen=True)
class TableReport:
    """A table and its scores."""

    config: TableConfig
    table: TableQuality
    agreement: Agreement | None = None

    @property
    def scores(self) -> Scores:
        """Scores of the table."""
        return score_table(self.table, self.config, self.agreement)


@dataclass(frozen=True)
class QualityReport:
    """What is known of a data set.

    Attributes:
        source: Name of the archive.
        tables: Its tables.
        refused: Answers set aside.
        missing: Requests without which it was built, as "address: reason".
    """

    source: str
    tables: tuple[TableReport, ...]
    refused: tuple[RefusedBody, ...] = ()
    missing: tuple[str, ...] = ()

    @property
    def failed_gates(self) -> list[str]:
        """Say which gates which table fails; empty if all pass."""
        return [f"{each.config.name}: {gate}" for each in self.tables for gate in failed_gates(each.scores)]
