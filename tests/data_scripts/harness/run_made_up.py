"""The command line with the made-up archive beside the real ones.

run_made_up.py ARGUMENTS...
"""

import sys

import made_up

from data_scripts.__main__ import main
from data_scripts.registry import ARCHIVES


if __name__ == "__main__":
    ARCHIVES["made_up"] = lambda: made_up.ARCHIVE
    raise SystemExit(main(sys.argv[1:]))
