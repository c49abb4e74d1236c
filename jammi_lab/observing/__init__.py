"""Observing: one look sees every input at most once."""
