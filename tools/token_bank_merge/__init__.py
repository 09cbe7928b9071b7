"""Many token banks into one Parquet file: inputs -> identity -> reading (with schema) -> merging -> manifest."""
