"""Lies here so that the tests of this folder and those below can import its modules; prints the fault matrix."""

from collections import defaultdict

import pytest
from loopback import FAULTS


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print sources by faults, where they were tested."""
    cells: dict[str, dict[str, str]] = defaultdict(dict)
    for outcome in ("passed", "failed"):
        for report in terminalreporter.stats.get(outcome, []):
            for name, cell in getattr(report, "user_properties", ()):
                if name == "fault_matrix" and report.when == "call":
                    replay, fault, text = cell
                    cells[replay][fault] = text
    if not cells:
        return
    order = ["none", *FAULTS]
    faults = sorted(
        {fault for row in cells.values() for fault in row}, key=lambda fault: order.index(fault.split(",")[0])
    )
    head = ["source/table", *faults]
    rows = [[replay, *(row.get(fault, "-") for fault in faults)] for replay, row in sorted(cells.items())]
    widths = [max(len(row[place]) for row in [head, *rows]) for place in range(len(head))]
    terminalreporter.section("fault matrix: 'whole (n)' is every row, once, after n faults")
    for row in [head, *rows]:
        terminalreporter.write_line(
            "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        )
