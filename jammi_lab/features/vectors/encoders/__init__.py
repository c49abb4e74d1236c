"""Encoders (texts → vectors): the sentence model, the hashing encoder, adapters for user models,
and the executors that run batches. Begin with `base.py`."""
