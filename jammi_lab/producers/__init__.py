"""Producers: definitions → rows, through one cache probe and one funnel."""
