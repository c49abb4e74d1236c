"""Features, each a room that knows the rooms below and no other feature; `words` knows `vectors`.
The rooms below are read without them.
"""
