"""Tables that change: mutable tables, ephemeral sessions, topics."""
