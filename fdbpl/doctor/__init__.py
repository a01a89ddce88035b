"""Whether this machine can run FDBPL: `python -m fdbpl.doctor`. Nothing here needs a package to be installed."""
