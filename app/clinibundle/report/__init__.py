"""Reports: self-contained pages and figures made from given facts, without files, clock or network."""
