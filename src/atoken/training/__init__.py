"""Training: data, optimizers and the loop."""
