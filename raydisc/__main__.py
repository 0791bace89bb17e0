"""The ``raydisc`` command as ``python -m raydisc``."""

import sys

from raydisc.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
