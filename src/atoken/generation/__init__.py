"""Generators that draw tokens: a diffusion transformer over packed tokens of any modality."""
