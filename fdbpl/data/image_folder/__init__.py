"""Custom data: images in class folders or a CSV, an optional dataset.yaml, and the split (docs/CUSTOM_DATA.md)."""
