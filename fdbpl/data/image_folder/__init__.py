"""Pictures of a user's own: what is found, what a dataset.yaml says of it, how it is split (docs/CUSTOM_DATA.md)."""
