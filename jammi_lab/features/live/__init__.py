"""Tables that change in place: mutable tables, topics, ephemeral sessions. Begin with
`mutable_tables.py`."""
