"""`python -m relocalize` is the `relocalize` command."""

from relocalize.cli.main import main

if __name__ == "__main__":
    main()
