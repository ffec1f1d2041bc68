"""clinibundle: MONAI bundles for clinics, from the study to measured findings, and for researchers who train them."""

__version__ = "0.1.0"
