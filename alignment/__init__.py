"""From preferences to a better generator."""
