"""`python -m atoll`: what the launcher hands over to."""

from __future__ import annotations

import sys

from atoll.cli.app import main

if __name__ == "__main__":
    main(sys.argv[1:])
