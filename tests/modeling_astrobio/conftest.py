"""Lies here so that the tests of the folders below can import its modules."""
