"""`jl.checks`: rules for `ws.checks.add`, such as `jl.checks.unique("id")`."""

from jammi_lab.features.checks.rules import *  # noqa: F403  the public path
