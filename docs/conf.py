"""The site: `make docs` builds it offline into build/site; a warning is an error.

The source folder is the repository, so that links between docs/, notebooks/ and the files beside
them hold on GitHub and on the site alike.
"""

from typing import Any

project = "jammi_lab"
author = "The jammi_lab authors"
project_copyright = author
extensions = ["myst_nb"]
root_doc = "docs/index"
include_patterns = [
    "docs/**.md",
    "notebooks/*.ipynb",
    "notebooks/data/README.md",
    "CONTRIBUTING.md",
    "tests/README.md",
    "CHANGELOG.md",
    "SECURITY.md",
]
exclude_patterns = [".venv*", "build", "**/.ipynb_checkpoints", "**/node_modules"]

html_theme = "furo"
pygments_dark_style = "github-dark"  # the default underlines modules like links
smartquotes = False  # a flag that is copied from a page keeps its two hyphens
html_title = "jammi_lab"
html_show_sourcelink = False
html_show_sphinx = False
html_static_path = ["_static"]
html_css_files = ["site.css"]

myst_enable_extensions = ["attrs_inline"]
myst_heading_anchors = 4
# The tests run every block of the pages and every notebook; here their stored outputs are shown.
nb_execution_mode = "off"
nb_merge_streams = True


def setup(app: Any) -> None:
    """Show blocks of cells, which mix SQL and magics, without colours."""
    from pygments.lexers.special import TextLexer

    app.add_lexer("ipython", TextLexer)
    app.connect("env-updated", search_answers_only)


def search_answers_only(_: Any, env: Any) -> None:
    """Leave pages for contributors out of the full-text search: they outnumber the guides and would
    hide them. Their titles stay searchable."""
    for page in env.found_docs:
        if page.startswith("docs/why/") or page in (
            "CHANGELOG",
            "CONTRIBUTING",
            "docs/tour",
            "tests/README",
        ):
            env.metadata[page]["nosearch"] = True
