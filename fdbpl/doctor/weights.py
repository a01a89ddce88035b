"""The demo CLIPs that ship with the code, and other weights that lie on this machine."""

from __future__ import annotations

import ast
import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path

from fdbpl.doctor.findings import Finding, fine, present, problem, sha256, warning

DEMO = Path(__file__).resolve().parents[1] / "backbones" / "weights"
STUDENTS = ("RN50", "ViT-B/32", "ViT-B/16", "ViT-L/14")


def demo_clips() -> Iterator[Finding]:
    """The demo CLIPs that ship with the code, against the list beside them."""
    remedy = f"restore {DEMO} from the repository"
    listed = [line.split() for line in (DEMO / "SHA256SUMS").read_text().splitlines()]
    wrong = [name for digest, name in listed if not (DEMO / name).is_file() or sha256(DEMO / name) != digest]
    if wrong:
        yield problem("demo CLIPs", f"missing or changed: {', '.join(wrong)}", remedy)
    else:
        yield fine("demo CLIPs", f"{len(listed)} files, hashes right")


def clip_weights() -> Iterator[Finding]:
    """OpenAI's weights in the cache, against the hashes in their addresses; the clip package is read, not run."""
    cache = Path(os.environ.get("FDBPL_CLIP_CACHE", "~/.cache/clip")).expanduser()
    models = published_models()
    there, broken, missing = [], [], []
    for name in STUDENTS:
        if name in models:
            digest, file = models[name].split("/")[-2], cache / models[name].rsplit("/", 1)[1]
            (missing if not file.is_file() else there if sha256(file) == digest else broken).append(name)
    if broken:
        remedy = "delete them: the next run fetches them"
        yield warning("CLIP weights", f"broken in {cache}: {', '.join(broken)}", remedy)
    if there:
        yield fine("CLIP weights", f"{', '.join(there)} in {cache}, hashes right")
    if missing or not models:
        need = f"not in {cache}: {', '.join(missing or STUDENTS)}"
        remedy = "the first run fetches them; without a network put the files there (the demo needs none)"
        yield warning("CLIP weights", need, remedy)


def published_models() -> dict[str, str]:
    """{name: address} that the clip package knows, read from its source."""
    spec = importlib.util.find_spec("clip") if present("clip") else None
    source = Path(spec.origin).with_name("clip.py") if spec and spec.origin else None
    if source is None or not source.is_file():
        return {}
    for node in ast.parse(source.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "_MODELS":
            return ast.literal_eval(node.value)
    return {}


def teachers() -> Iterator[Finding]:
    """Of KDPL's teacher in open_clip's cache: any file of that model will do to say it is there."""
    hub = Path(os.environ.get("HF_HUB_CACHE") or Path(os.environ.get("HF_HOME", "~/.cache/huggingface"), "hub"))
    found = sorted(path.name for path in hub.expanduser().glob("models--*") if "CLIP" in path.name)
    if found:
        names = (name.removeprefix("models--").replace("--", "/") for name in found)
        yield fine("teachers", f"{', '.join(names)} in {hub}")
    else:
        remedy = "the first run fetches them; or TEACHER.NAME open_clip:ARCHITECTURE//file, or ViT-L/14"
        yield warning("teachers", f"no open_clip weights in {hub.expanduser()}", remedy)
