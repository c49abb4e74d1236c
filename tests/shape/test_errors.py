"""The tree of errors: drawn, documented, picklable, and a KeyError or ValueError where API.md says
so."""

import copy
import inspect
import pickle

import pytest

from jammi_lab import errors
from jammi_lab.core import errors as tree
from jammi_lab.core.errors import JammiError

CLASSES = sorted(
    (
        cls
        for _, cls in inspect.getmembers(errors, inspect.isclass)
        if issubclass(cls, JammiError) and cls.__module__ == errors.__name__
    ),
    key=lambda cls: cls.__name__,
)
API = set(
    """
    NameInvalid SourceNotFound SourceUnavailable SourceExists TableNotFound SqlError StatementNotAllowed ParameterMissing SchemaMismatch NotRecomputable
    DependencyCycle ManifestUnsupported TableDamaged NoTenantBinding TenantForbidden DuplicateTable DuplicateKey NameTooLong UnknownTable SessionClosed
    PartialDeletionFailure ModelNotFound ModelReferenced VersionConflict TopicNotFound ExtensionMissing SecretMissing WorkspaceNotFound WorkspaceReadOnly
    CatalogTooNew LostOwnership CheckFailed ForkedWorkspace ResourceExhausted AmbiguousMatch InvalidArgument
    """.split()
)
MISSES = {
    "SourceNotFound",
    "TableNotFound",
    "UnknownTable",
    "CheckNotFound",
    "RowNotFound",
    "ModelNotFound",
    "TopicNotFound",
    "WorkspaceNotFound",
}
BAD_ARGUMENTS = {
    "InvalidArgument", "NameInvalid", "NameTooLong", "ParameterMissing", "SchemaMismatch", "DuplicateKey", "DuplicateTable", "SourceExists",
    "DependencyCycle", "AmbiguousMatch",
}  # fmt: skip
FIELDS = {
    "SqlError": {"position", "excerpt"}, "SchemaMismatch": {"table", "column", "expected", "actual"}, "DuplicateKey": {"keys"}, "NameTooLong": {"name", "max"},
    "PartialDeletionFailure": {"session_id", "failed", "total", "tables"}, "ModelReferenced": {"references"},
    "CheckFailed": {"check", "table", "failing", "sample"},
}  # fmt: skip


def example(cls: type[JammiError]) -> JammiError:
    """An error of that class with every field filled."""
    filled = {
        "max": 9,
        "failed": 1,
        "total": 2,
        "keys": (1, "a"),
        "path": ("a", "b"),
        "tables": ("t",),
        "references": ("r",),
        "near": ("nearby",),
    }
    names = set(inspect.signature(cls).parameters)
    if "fields" in names:
        names.remove("fields")
        names.update(
            *(
                inspect.get_annotations(base)
                for base in cls.__mro__[: cls.__mro__.index(JammiError)]
            )
        )
    return cls(**{name: filled.get(name, f"<{name}>") for name in names})


each_class = pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)


def test_every_error_of_the_api_exists():
    assert not API - {cls.__name__ for cls in CLASSES}


def test_lookups_that_miss_are_key_errors():
    assert {cls.__name__ for cls in CLASSES if issubclass(cls, KeyError)} == MISSES


def test_bad_arguments_are_value_errors():
    assert {cls.__name__ for cls in CLASSES if issubclass(cls, ValueError)} == BAD_ARGUMENTS


def test_whoever_expects_rows_that_do_not_fit_also_meets_those_that_share_a_key():
    assert issubclass(errors.DuplicateKey, errors.SchemaMismatch)


def test_the_drawn_tree_names_every_class():
    drawn = (tree.__doc__ or "").replace("·", " ").split()
    assert not [cls.__name__ for cls in CLASSES if cls.__name__ not in drawn]


@each_class
def test_an_error_says_what_happened_in_its_docstring(cls):
    assert cls.__doc__ and cls.__doc__.strip().endswith(".")


@each_class
def test_an_error_survives_pickling_with_its_fields(cls):
    error = example(cls).with_position("SELECT x", 7)
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), vars(again), again.args) == (cls, vars(error), error.args)


@each_class
def test_an_error_survives_copying(cls):
    error = example(cls)
    assert vars(copy.copy(error)) == vars(error)


@each_class
def test_an_error_reads_as_its_sentence(cls):
    error = example(cls)
    assert str(error).startswith(error.message)


@each_class
def test_an_error_takes_at_most_five_lines(cls):
    assert len(example(cls).with_position("SELECT\n  x\nFROM t", 9).lines()) <= 5


def test_a_field_that_no_class_declares_is_a_defect():
    with pytest.raises(TypeError, match="SqlError has no field 'colunm'"):
        errors.SqlError("no", colunm="x")


@pytest.mark.parametrize(("name", "fields"), FIELDS.items())
def test_an_error_carries_the_fields_of_the_api(name, fields):
    error = example(getattr(errors, name))
    assert not [field for field in fields if not hasattr(error, field)]


def test_every_error_is_an_attribute_of_the_package():
    import jammi_lab as jl

    assert not [cls.__name__ for cls in CLASSES if getattr(jl, cls.__name__, None) is not cls]


def test_a_text_that_ends_too_early_is_marked_at_its_end():
    text = "SELECT 1\nFROM\n"
    assert (
        JammiError("The statement is incomplete.").with_position(text, len(text)).excerpt
        == "FROM\n    ^"
    )


def test_the_marked_line_shows_that_its_beginning_is_left_out():
    statement = f"SELECT {'x, ' * 40}y FROM t"
    line, caret = (
        errors.SqlError("no").with_position(statement, statement.index("y")).excerpt.split("\n")
    )
    assert line.startswith("…") and line[caret.index("^")] == "y"
    short = errors.SqlError("no").with_position("SELECT y FROM t", 7).excerpt
    assert short == "SELECT y FROM t\n       ^"
