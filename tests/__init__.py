"""The tests. A package, so that no other one of that name is found before it: IPython 7.34 has one on its path."""
