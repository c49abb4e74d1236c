"""The public import path of all errors that the package raises. The tree is drawn in
`jammi_lab.core.errors`."""

from jammi_lab.core.errors import *  # noqa: F403  the public path, by which they are pickled, too
from jammi_lab.core.errors import _rebuild  # noqa: F401  named by pickles
