"""`python -m jammi_lab.cli`: the command `jammi-lab` of this interpreter."""

import sys

from jammi_lab.cli import main

sys.exit(main())
