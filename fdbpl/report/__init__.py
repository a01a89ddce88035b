"""Results of many runs as tables in Markdown, CSV and LaTeX, and as one self-contained page."""

from fdbpl.report.report import write_report

__all__ = ["write_report"]
