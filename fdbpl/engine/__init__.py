"""Training engine: students, supervisions, the Dassl trainer that joins them, checkpoints, and finished runs.

Importing this package makes `import dassl` work (see third_party).
"""

try:
    from fdbpl.third_party import use_dassl  # an installed wheel
except ImportError:
    from third_party import use_dassl  # a checkout

DASSL = use_dassl()  # one line that names the Dassl in use
