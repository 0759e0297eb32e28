"""Gaussians, cameras and pictures of them."""
