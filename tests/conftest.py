"""What all tests share: the time that each tier took, told at the end."""

from __future__ import annotations

from collections import Counter

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print how many tests each tier has and how long they took, one after another."""
    seconds: Counter[str] = Counter()
    tests: dict[str, set[str]] = {}
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport) and report.nodeid.startswith("tests/"):
                tier = report.nodeid.split("/")[1]
                seconds[tier] += report.duration
                tests.setdefault(tier, set()).add(report.nodeid)
    for tier, names in sorted(tests.items()):
        terminalreporter.write_line(f"{tier}: {len(names)} tests, {seconds[tier]:.1f} s")
