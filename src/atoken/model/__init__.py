"""The network: packed tokens in, packed tokens out. It knows no loss, trainer, file format of media or download.

Shapes everywhere: B samples, N packed tokens, C channels, H heads, D channels of a head, S segments (one sample in
one time tile), W width.
"""
