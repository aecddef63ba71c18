"""Finds, crops and tracks faces."""
