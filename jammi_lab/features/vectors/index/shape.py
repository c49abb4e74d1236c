"""What an index is besides its bytes, as its manifest records it."""

import msgspec


class BuildParameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Build parameters of an index."""

    precision: str
    """bf16, f16, i8 or f32."""
    connectivity: int
    """Edges per vector in the graph."""
    build_expansion: int
    """Candidates considered when a vector is inserted."""


class IndexShape(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything needed to use an index besides its bytes."""

    parameters: BuildParameters
    dimensions: int
    count: int
    """Rows of the table in the index."""
    expansion: int
    """Search expansion, as measured; 0 where reading every vector is less work."""
    removed: int = 0
    """Vectors removed since the index was built."""
    first_label: int = 0
    """The number in the graph of the first row; the others follow."""
    scale: float = 1.0
    """The factor of each component of a unit vector where integers are stored: it maps the largest
    one to the largest integer."""
