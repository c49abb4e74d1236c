"""`jl.checks`: the rules for `ws.checks.add`, such as `jl.checks.unique("id")`, one line each.
Installed packages add theirs as entry points of the group `jammi_lab.checks`."""

from typing import Any

from jammi_lab.core.attribute_suggestions import missing_attribute_message
from jammi_lab.core.entry_points import CHECKS, load_package_entry, package_entries
from jammi_lab.core.identifiers import fold
from jammi_lab.features.checks import rules

Rule, quoted_columns = rules.Rule, rules.quoted_columns
accepted = rules.Accepted
between = rules.Between
drift = rules.Drift
not_null = rules.NotNull
references = rules.References
row_count = rules.RowCount
unique = rules.Unique


def __getattr__(name: str) -> Any:
    if name.startswith("_") or fold(name) not in package_entries(CHECKS):
        module = "module 'jammi_lab.checks'"
        raise AttributeError(missing_attribute_message(module, name, [*globals()]))
    return load_package_entry(CHECKS, name)
