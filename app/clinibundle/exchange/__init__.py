"""Bundles between clinics: looked through before anything in them runs."""
