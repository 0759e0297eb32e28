"""Drawn pictures beside real ones: sets of pictures, features of them, and numbers that compare two sets."""
