"""`python -m clinibundle` is the same program as `clinibundle`."""

from clinibundle.cli import main

if __name__ == "__main__":
    main()
