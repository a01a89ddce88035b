"""Installation and checks of data sets: `bash scripts/prepare_data.sh`, or `python -m fdbpl.data.prepare`."""
