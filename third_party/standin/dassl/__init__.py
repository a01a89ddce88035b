"""Stand-in for Dassl.pytorch: our own code with the interface that prompt learners of the CoOp family use.

The project runs with it where upstream (KaiyangZhou/Dassl.pytorch at c61a1b5) is not installed. Names, defaults, lines
of the log and folders are upstream's; parts that prompt learners do not use are left out.
"""

__version__ = "0.6.3+standin"
