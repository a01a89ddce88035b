"""Custom data: images in class folders, tables or Parquet files, an optional dataset.yaml, and the split."""
