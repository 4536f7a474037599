"""What we ask of a generator."""
