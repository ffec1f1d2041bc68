"""Studies in (find, select, decode) and objects out (SEG)."""
