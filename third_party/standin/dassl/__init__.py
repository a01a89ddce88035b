"""Stand-in for Dassl.pytorch: our own code behind the interface that prompt learners of the CoOp family use.

It exists so that the project runs where upstream cannot be had. Names, defaults, log lines and folders are upstream's
(KaiyangZhou/Dassl.pytorch at c61a1b5), the code is not.
"""

__version__ = "0.6.3+standin"
