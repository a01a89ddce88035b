"""Command lines whose mistakes end as all mistakes of a user's do: in one sentence and exit code 2."""

import argparse
from typing import NoReturn

from fdbpl.errors import UserError, cli_error_handler, one_line


class ArgumentParser(argparse.ArgumentParser):
    """argparse's, which would answer with its whole usage, and Ctrl-C with a traceback."""

    def parse_args(self, *arguments, **keywords) -> argparse.Namespace:  # type: ignore[override]
        with cli_error_handler():
            return super().parse_args(*arguments, **keywords)

    def parse_intermixed_args(self, *arguments, **keywords) -> argparse.Namespace:  # type: ignore[override]
        with cli_error_handler():
            return super().parse_intermixed_args(*arguments, **keywords)

    def error(self, message: str) -> NoReturn:
        wanted = f"expected arguments as {self.prog} --help shows them"
        self.exit(UserError.exit_code, f"error: {wanted}, found a mistake ({one_line(message)}); mend it\n")
