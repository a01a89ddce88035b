"""`python -m fdbpl.data.image_folder PLACE` prints the name and the digest of what is there, for the scripts."""

import sys

from fdbpl.data.image_folder.folder import read_image_folder
from fdbpl.errors import cli_error_handler

if __name__ == "__main__":
    with cli_error_handler():
        own = read_image_folder(sys.argv[1])
        sys.stdout.reconfigure(encoding="utf-8")  # type: ignore[union-attr]  # scripts use it as a folder name
        print(own.name, own.digest)
