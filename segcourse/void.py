"""The label of pixels that nobody labelled, for data sets, losses and metrics alike."""

VOID = 255
"""No loss and no metric counts a pixel with this label."""
