"""Command lines whose mistakes end as all mistakes of a user's do: in one sentence and exit code 2."""

import argparse
from typing import NoReturn

from fdbpl.errors import UserError, one_line


class ArgumentParser(argparse.ArgumentParser):
    """argparse's, which would answer with its whole usage."""

    def error(self, message: str) -> NoReturn:
        wanted = f"expected arguments as {self.prog} --help shows them"
        self.exit(UserError.exit_code, f"error: {wanted}, found a mistake ({one_line(message)}); mend it\n")
