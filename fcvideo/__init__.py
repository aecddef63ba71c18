"""fcvideo: expression and identity codes of faces for large video collections."""

__version__ = "0.2.0"
