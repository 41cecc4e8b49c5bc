"""`python -m twofold`: the command line, also where no script is on the path."""

from twofold.cli.app import main

if __name__ == "__main__":
    main()
