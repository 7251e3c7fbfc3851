"""The report on a workspace: one page for whoever has to answer for it, with nobody's name on it."""

from unlearn.report.data import Measured, Report
from unlearn.report.gather import describe
from unlearn.report.html import render, write

__all__ = ["Measured", "Report", "describe", "render", "write"]
