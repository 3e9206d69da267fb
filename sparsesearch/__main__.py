"""`python -m sparsesearch` is the program `sparsesearch`."""

from sparsesearch.cli import main

if __name__ == "__main__":
    main()
