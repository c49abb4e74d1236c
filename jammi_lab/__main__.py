"""`python -m jammi_lab` is the command line."""

import sys

from jammi_lab.cli import main

sys.exit(main())
