"""Results of many runs: tables in Markdown, CSV and LaTeX, and one page to look at."""

from fdbpl.report.report import write_report

__all__ = ["write_report"]
