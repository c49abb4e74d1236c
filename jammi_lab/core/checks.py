"""Checks as values: the rule about the rows of a table, and what a run of it found."""

import enum
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jammi_lab.core.anchors import Anchor
from jammi_lab.core.canonical_json import digest_of
from jammi_lab.core.errors import CheckFailed
from jammi_lab.core.identifiers import fold
from jammi_lab.core.value import Value

DEFINITION_SCHEME = "check-1"


class Severity(enum.StrEnum):
    """What a failing check does."""

    BLOCK = "block"
    """It keeps a version from becoming the newest."""
    WARN = "warn"
    """It is reported."""


class CheckOutcome(enum.StrEnum):
    """The result of one run of a check."""

    PASS = "pass"  # noqa: S105  an outcome, not a password
    FAIL = "fail"
    ERROR = "error"


class CheckStatus(enum.StrEnum):
    """How the checks on something stand."""

    FAIL = "fail"
    """One did not pass, or could not be run."""
    DUE = "due"
    """None failed, and one was not run on what is there now."""
    PASS = "pass"  # noqa: S105  a status, not a password


@dataclass(frozen=True)
class CheckMark:
    """How the checks on something, or on the members of a group, stand."""

    text: str
    """As `3 pass` or `1 of 3 fails`, of a group as `fail in 1 of 4`."""
    status: CheckStatus
    """The worst of them."""
    failed: int = 0
    """How many of the checks on one thing did not pass."""

    @classmethod
    def from_statuses(cls, statuses: Iterable[CheckStatus]) -> "CheckMark | None":
        """The mark of checks that stand like this; None without any."""
        counts = Counter(statuses)
        if not counts:
            return None
        worst = min(counts, key=[*CheckStatus].index)
        failed = counts[CheckStatus.FAIL]
        if failed:
            text = f"{failed:,} of {counts.total():,} fail{'s' * (failed == 1)}"
        else:
            best_first = reversed(CheckStatus)
            text = ", ".join(f"{counts[s]:,} {s}" for s in best_first if counts[s])
        return cls(text, worst, failed)

    @property
    def verdict(self) -> str:
        """The verdict whose sign and colour the mark has."""
        return _VERDICTS[self.status]


_VERDICTS: Mapping[CheckStatus, str] = {
    CheckStatus.FAIL: "damaged",
    CheckStatus.DUE: "undecidable",
    CheckStatus.PASS: "fresh",
}


class CheckRecord(Value, frozen=True, kw_only=True):
    """A check: a statement whose rows are the failing ones."""

    name: str
    recipe: str
    """The recipe whose versions it checks."""
    subject: str
    """The name that stands for the checked version in the statement, after `jammi.`: that of the
    recipe when the check was added."""
    severity: Severity
    rule: str
    """The rule in words; empty when only the statement says it."""
    statement: str
    """The SELECT of the failing rows."""
    params: dict[str, Any] = {}
    """Bound values, encoded by `encode_param`."""
    tenant: str | None = None
    created_at: str = ""
    updated_at: str = ""

    def definition_hash(self, environment: Mapping[str, Any]) -> str:
        """Digest over everything that decides which rows fail, apart from the inputs."""
        return digest_of(
            {
                "scheme": DEFINITION_SCHEME,
                "statement": self.statement,
                "params": self.params,
                "environment": dict(environment),
            }
        )

    def is_on(self, name: str) -> bool:
        """Whether it checks the recipe of that name, as it is or as in FROM."""
        return fold(name) in (fold(self.recipe), f"jammi.{fold(self.recipe)}")

    @property
    def key(self) -> tuple[str | None, str]:
        """Its owner and folded name."""
        return self.tenant, fold(self.name)

    @property
    def recipe_key(self) -> tuple[str | None, str]:
        """The owner and the folded name of what it checks."""
        return self.tenant, fold(self.recipe)

    @property
    def text(self) -> str:
        """The rule in words, else the statement on one line."""
        return self.rule or " ".join(self.statement.split())


class CheckResult(Value, frozen=True, kw_only=True):
    """What a check found in one version of a table."""

    _volatile_fields = ("checked_at", "seconds")

    check: str
    """The name of the check."""
    table_name: str
    """The physical table."""
    tenant: str | None = None
    definition_hash: str
    """The definition of the check that was run."""
    severity: Severity
    outcome: CheckOutcome
    failing: int | None
    """Number of failing rows; None after an error."""
    error: str | None = None
    """Why it could not be run."""
    anchors: list[Anchor] = []
    """The states of what it read, the checked version among them; none after an error."""
    checked_at: str = ""
    """When its statement was run, RFC 3339."""
    seconds: float = 0.0

    @property
    def key(self) -> tuple[str | None, str]:
        """The owner and the folded name of the check."""
        return self.tenant, fold(self.check)

    @property
    def passes(self) -> bool:
        """Whether no row fails."""
        return self.outcome is CheckOutcome.PASS

    @property
    def blocks(self) -> bool:
        """Whether it keeps the version from becoming the newest."""
        return self.severity is Severity.BLOCK and not self.passes

    @property
    def anchors_digest(self) -> str:
        """Digest over the states of what it read."""
        return digest_of([[*a.input.identity, a.method, a.value] for a in self.anchors])


@dataclass(frozen=True)
class Audit:
    """The results of all checks of a table on bytes that nobody can read yet."""

    checks: Sequence[CheckRecord] = ()
    """The checks that were considered."""
    results: list[CheckResult] = field(default_factory=list)
    failure: CheckFailed | None = None
    """Raised when a blocking check did not pass; the version is rejected."""

    def covers(self, checks: Sequence[CheckRecord]) -> bool:
        """Whether every blocking check among these was considered."""
        return all(c in self.checks for c in checks if c.severity is Severity.BLOCK)
