"""How fast, as ratios: `make bench`."""
