"""Metrics of climate fields on the sphere, weighted by area."""
