"""People: which pairs they see, what they answer, what follows from it."""
