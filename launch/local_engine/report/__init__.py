"""What a finished run shows: an offline HTML page and static figures, both drawn from one dictionary."""

from .data import report_data
from .page import build_report
from .plots import save_plots

__all__ = ["build_report", "report_data", "save_plots"]
