"""A report: one self-contained HTML file of a run, of one training, or of scored performances.

It needs the extra `report` (Jinja2, and what figures need), which is imported when a page is written.
"""

from mag2.report.writing import make_report, write_report

__all__ = ["make_report", "write_report"]
