"""Inferers that overlays name by `_target_`."""
