"""Networks that overlays name by `_target_`."""
