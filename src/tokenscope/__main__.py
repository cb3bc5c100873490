"""``python -m tokenscope``."""

from tokenscope.cli import main

if __name__ == "__main__":
    main()
