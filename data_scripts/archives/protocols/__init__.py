"""Protocols that several archives speak."""
