"""Each algorithm: a config, a pure loss on a typed batch, and an objective for the one training loop."""
