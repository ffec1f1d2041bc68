"""What a MONAI bundle is to us: found, described, overlaid, run, and used for prediction."""
