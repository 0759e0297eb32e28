"""Samples and batches for training: sources, mixing with seeds, workers, packing."""
