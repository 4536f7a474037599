"""Networks: the generator and what trains it."""
