"""The objects a person holds: `Workspace`, `ResultTable`, `Result` and the collections.
`assembly.py` is the composition root. Only `cli.py` and the surfaces import this room. Begin with
`workspace.py`.
"""
