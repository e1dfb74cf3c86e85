"""`python -m covermap` is the command `covermap`."""

from covermap.cli import main

if __name__ == "__main__":
    main()
