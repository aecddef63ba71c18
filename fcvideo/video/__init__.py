"""Reads video files: inputs, probe, segments, frames. The only place that knows PyAV and decord."""
