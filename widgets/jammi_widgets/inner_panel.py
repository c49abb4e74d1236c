"""A panel that is shown inside another one, at most one at a time."""

from typing import Any

from jammi_widgets.panel import Panel


class InnerPanel:
    """The panel that is shown inside another one; opening one closes the one before."""

    def __init__(self) -> None:
        self.panel: Panel | None = None

    def open(self, panel: Panel) -> dict[str, Any]:
        """The message with which the page shows a panel."""
        self.close()
        self.panel = panel
        return {"widget": panel.model_id}

    def close(self) -> None:
        """Close the panel, if one is open."""
        if self.panel is not None:
            self.panel.close()
        self.panel = None
