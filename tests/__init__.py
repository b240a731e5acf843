import os

# The suite has a process for each core, and frames of a few rows.
os.environ.setdefault("POLARS_MAX_THREADS", "1")
