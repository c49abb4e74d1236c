"""Where bytes live: atomic writes, digests, Parquet files."""
