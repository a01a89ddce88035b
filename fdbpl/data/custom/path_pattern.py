"""Pattern of image paths that hold the class, e.g. */{class}/*."""

import re
from pathlib import Path

from fdbpl.errors import UserError, quoted

TOKENS = re.compile(r"\{class\}|\{split\}|\*\*|\*|\?|[^*?{}]+|.")
GROUPS = {"{class}": "(?P<label>[^/]+)", "{split}": "(?P<split>[^/]+)", "**": ".*", "*": "[^/]*", "?": "[^/]"}


def check_layout(layout: str, file: Path) -> None:
    """Check a pattern from dataset.yaml.

    Raises:
        UserError: {class} is missing or occurs twice, or there are other braces.
    """
    rest = layout.replace("{class}", "").replace("{split}", "")
    if layout.count("{class}") != 1 or layout.count("{split}") > 1 or set("{}") & set(rest):
        raise UserError(
            f"layout {quoted(layout)} in {file} must contain {{class}} once, for the folder that names the class (or "
            "be the depth of these folders, from 1). Example: layout: '*/{class}/*'"
        )


def layout_pattern(layout: str) -> re.Pattern:
    """Compile a layout: `*` matches within a folder name, `**` any folders, a last `/*` also sub-folders."""
    body = layout.removesuffix("/**").removesuffix("/*")
    below = "/.+" if body != layout or layout.endswith("{class}") else ""
    pattern = "".join(GROUPS.get(token, re.escape(token)) for token in TOKENS.findall(body))
    return re.compile(pattern + below)
