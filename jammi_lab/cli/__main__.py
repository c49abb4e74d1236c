"""`python -m jammi_lab.cli`: the command `jammi-lab` of this interpreter."""

from jammi_lab.cli import main

main(prog_name="jammi-lab")
