"""The embedded steady climates, files of `select_climates`."""

from pathlib import Path


__all__ = ["EMBEDDED_CLIMATES"]

EMBEDDED_CLIMATES = Path(__file__).with_name("climates_exoplasim")
"""Folder of NetCDF files, a planet each; `README.md` beside it says how they were made."""
