"""`jl.checks`: rules for `ws.checks.add`, such as `jl.checks.unique("id")`."""

from jammi_lab.core.check_rules import *  # noqa: F403  the public path
