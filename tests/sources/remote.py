"""A source of files elsewhere, as a workspace makes it of an address and options."""

from jammi_lab.core.records import SourceRecord
from jammi_lab.sources.base import SourceContext
from jammi_lab.sources.credentials import resolve_credentials, strip_credentials
from jammi_lab.sources.registry import connector_for, infer_kind


def remote_source(address, kind=None, options=None, secret=None, **more):
    location, kept, taken = strip_credentials(address, options or {})
    given = lambda: (taken, secret)  # noqa: E731
    told = {"name": "s", "location": location, "options": kept, **more}
    draft = SourceRecord(kind=kind or "csv", **told)
    found = infer_kind(location, kind, lambda: resolve_credentials(draft, given))
    return connector_for(SourceRecord(kind=found, **told), context=SourceContext(credentials=given))
