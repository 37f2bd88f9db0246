"""Molecules and reactions as graphs: files of the field in, named features with units out."""
