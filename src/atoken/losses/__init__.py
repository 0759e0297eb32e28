"""Losses, one per file; every one is a mean over pixels, tokens or pictures, never a sum over a picture."""
