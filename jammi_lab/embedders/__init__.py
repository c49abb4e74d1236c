"""Encoders: texts in, unit vectors out. One protocol, a real sentence model, a lexical stand-in, adapters for what people bring."""
