"""The patch that one token stands for, and the kinds of tokens."""

PATCH = (4, 16, 16)
"""Frames, rows and columns of one patch."""
FRAME_FEATURES = PATCH[1] * PATCH[2] * 3
"""Numbers of one frame of a patch (768): all that images and voxels use."""
PATCH_FEATURES = PATCH[0] * FRAME_FEATURES
"""Numbers of one patch, in the order (frame, row, column, RGB): 3072."""
KINDS = ("continuous", "discrete")
