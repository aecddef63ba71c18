"""Reads and writes videos and pictures. The only place that knows PyAV and decord."""
