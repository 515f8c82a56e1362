"""Onefold: one folder, every machine, always identical."""

__version__ = "0.1.0"
