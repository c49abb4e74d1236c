"""Tables that change: mutable tables, topics, ephemeral sessions. The room imports `core` to
`engine`. Begin with `mutable_tables.py`."""
