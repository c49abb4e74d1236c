"""The version of jammi_lab, which manifests record."""

__version__ = "0.1.0"
