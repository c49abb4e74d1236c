"""Characters of texts that a property is tried on."""

from hypothesis import strategies as st

ENCODABLE = st.characters(exclude_categories=["Cs"])
"""Every character that UTF-8 encodes. `st.text()` draws from the same ones, but finds them by
encoding each, which takes three seconds of every process that has no cache of it."""
