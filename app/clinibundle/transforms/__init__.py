"""Transforms that configs name by `_target_`, where MONAI has none."""
