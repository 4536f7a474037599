"""Votes that people gave elsewhere, read into the same records as our own: one file a format."""
