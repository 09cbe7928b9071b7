"""The per-token table of a rollout: columns (with list_columns) -> formats and summary -> bank, block by block.

Parquet needs pyarrow, on first use.
"""
