"""Rasterizers of Gaussians: one formula in plain torch, compiled loops, and CUDA kernels."""
