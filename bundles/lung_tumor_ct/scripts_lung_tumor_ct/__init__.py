"""What MONAI has no part for: slices as data, balanced crops of them, exact resume."""
