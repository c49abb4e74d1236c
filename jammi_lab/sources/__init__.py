"""What exists outside: one connector per kind of source. A connector checks, lists tables, gives what SQL reads, and says which state it is in."""
