"""Sections of any size segmented tile by tile: what is done is kept, and memory does not grow with the picture."""
