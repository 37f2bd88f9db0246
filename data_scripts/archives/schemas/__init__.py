"""Columns of the tables whose schema is long."""
