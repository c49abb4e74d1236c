"""Sensing: lineage, verdicts, plans. Its verbs change nothing but the observation memo."""
