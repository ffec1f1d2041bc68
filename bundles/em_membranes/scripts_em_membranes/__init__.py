"""What MONAI has no part for in learning em_membranes: which sections take part, and what a run needs to be resumed."""
