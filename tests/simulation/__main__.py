"""`python -m tests.simulation --seeds 10000`: runs seeds and says which fail, and how."""

from __future__ import annotations

import sys

from tests.simulation.run import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
