"""Lines of `%jammi`, first lines of cells and commands of `jammi-lab`: one table, one parser, one
help, and the verbs that cells and the shell share.

A command is an entry in `commands.txt` and a method `_<verb>`: in `shared.py` for both places, else
in the surface that has it. Without a method it is the workspace's of that name. A package adds one
through an entry point. Begin reading at `table.py`. It may import all rooms of `jammi_lab` but the
surfaces, and only those import it.
"""
