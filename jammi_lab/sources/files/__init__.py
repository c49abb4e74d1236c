"""File sources: a file, glob or folder, local or on an object store, or one file over http. Begin
with `connector.py`."""
