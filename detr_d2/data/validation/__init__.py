"""Reading a panoptic dataset in full, to say what training would crash on or evaluate falsely."""

from .report import Dataset, Report, fix, validate

__all__ = ["Dataset", "Report", "fix", "validate"]
