"""The objects a person holds: `Workspace`, `ResultTable`, `Result` and the collections.

`assembly.py` is the composition root. Imports all rooms below; only `cli` and the surfaces import
this room. Begin with `workspace.py`, whose methods each call one service.
"""
