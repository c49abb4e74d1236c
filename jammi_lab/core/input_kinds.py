"""The table of kinds of input: what a name in FROM may mean. A kind is one class, which joins the
table when its module is imported; `inputs.observation.Kind` adds how its inputs are resolved and
observed."""

from typing import ClassVar


class InputKind:
    """What is known of all inputs of a kind. A kind that this kernel does not know, such as one
    that a later release recorded, is as this class says."""

    kind: ClassVar[str] = ""
    """Its name in anchors, manifests and the lineage."""
    word: ClassVar[str] = ""
    """What one of its inputs is called."""
    schema: ClassVar[str] = ""
    """The schema of its names in FROM; empty for names without one."""

    is_result: ClassVar[bool] = False
    """Whether a recipe of the workspace makes it, which gives it versions and verdicts."""
    is_external: ClassVar[bool] = False
    """Whether its rows come from outside of the workspace, where others change them."""
    is_stored: ClassVar[bool] = False
    """Whether these lie in files or on a server, and outlive this kernel."""
    has_origin: ClassVar[bool] = False
    """Whether it is an object of Python, whose anchor records what it was made from."""
    has_rows: ClassVar[bool] = True
    """Whether it is a table, and not a value such as the date."""

    colour: ClassVar[str] = "#5b6470"
    """What fills its nodes in drawings."""

    def __init_subclass__(cls) -> None:
        if "kind" in vars(cls):
            _classes[cls.kind] = cls

    @classmethod
    def name_parts(cls, name: str) -> tuple[str, ...]:
        """A name as in FROM, in parts."""
        return (cls.schema, name) if cls.schema else tuple(name.split(".", 1))


MODEL_KIND = "model"
"""The kind of the nodes of models in the lineage, and of the edges that leave them."""
_classes: dict[str, type[InputKind]] = {}


def input_kind(kind: str) -> type[InputKind]:
    """The class of a kind; InputKind itself for one that is not in the table."""
    assert _classes, "opening a workspace imports the kinds"
    return _classes.get(kind, InputKind)


def leaf_kind(kind: str) -> type[InputKind] | None:
    """The class of a kind of input that no recipe makes; None for any other kind of node of the
    lineage: of a result table, a model."""
    found = input_kind(kind)
    return None if found is InputKind or found.is_result else found


def schemas() -> set[str]:
    """The schemas of the workspace's own tables in FROM."""
    return {found.schema for found in _classes.values() if found.schema}
