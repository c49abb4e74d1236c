"""Frozen values without I/O: anchors, descriptors, manifests, verdicts, records. They compare by value and serialise with `to_dict()`."""
