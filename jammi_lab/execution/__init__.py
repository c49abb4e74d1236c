"""Where batches of work run: in this kernel, or on the workers of a Dask cluster."""
