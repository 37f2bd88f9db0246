"""Checks that are executed before a long run, on its own recipe, data and machine."""
