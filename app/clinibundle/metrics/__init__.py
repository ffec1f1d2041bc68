"""How good a mask is against the truth, and what many cases say together."""
