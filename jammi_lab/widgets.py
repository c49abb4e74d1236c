"""The panels, so that `from jammi_lab.widgets import LineageGraph` works: this name stands for the
module of the surface `widgets`."""

import sys

from jammi_lab.core.surfaces import load_surface

sys.modules[__name__] = load_surface("widgets")
