"""`jl.widgets` exists and says what is planned until the panels are built."""

import pytest

import jammi_widgets

PANELS = ["LineageGraph", "StalenessBoard", "NeighborExplorer", "CatalogBrowser", "EmbeddingMap"]


def test_the_package_hands_the_panels_on():
    import jammi_lab as jl

    assert jl.widgets is jammi_widgets


@pytest.mark.parametrize("panel", PANELS)
def test_a_planned_panel_says_what_to_use_until_it_is_built(panel):
    with pytest.raises(AttributeError, match=rf"{panel} is not built yet .*; until it is, ws\."):
        getattr(jammi_widgets, panel)


def test_an_unknown_panel_names_the_planned_ones():
    with pytest.raises(AttributeError, match="LineageGraph, StalenessBoard"):
        _ = jammi_widgets.LineagGraph


def test_a_planned_panel_is_not_offered_as_if_it_were_there():
    assert not hasattr(jammi_widgets, "LineageGraph")
    assert "LineageGraph" not in dir(jammi_widgets)
