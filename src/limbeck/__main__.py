"""`python -m limbeck`, where the program `limbeck` is not on the path."""

from limbeck.cli import main

if __name__ == "__main__":
    main()
