"""What following frames takes from the engine. Imported once the engine is loaded: a notebook that
only loads the extension does without it, and an import statement in a function that runs for each
name of a cell takes as long as the rest of it."""

from jammi_lab.core.anchors import FrameOrigin
from jammi_lab.sources.frame_origins import TOO_LARGE, is_mutable, merged_origin
from jammi_lab.sources.frames import is_frame, rows_digest


class EngineParts:
    """Functions and classes of the engine."""

    FrameOrigin = FrameOrigin
    TOO_LARGE = TOO_LARGE
    is_frame = staticmethod(is_frame)
    is_mutable = staticmethod(is_mutable)
    merged_origin = staticmethod(merged_origin)
    rows_digest = staticmethod(rows_digest)
