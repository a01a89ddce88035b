"""The environment of a run: versions of packages, state of the code, machine."""

import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from fdbpl import __version__

PACKAGES = ("torch", "torchvision", "numpy", "pillow", "openai-clip", "nvidia-dali-cuda130", "yacs", "safetensors")
CODE = Path(__file__).resolve().parents[2]


def describe_environment() -> dict:
    """Describe Python, packages (None = absent), the code (version, commit, modified or not) and the machine."""
    return {
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "code": {
            "version": __version__,
            "commit": _git("rev-parse", "HEAD"),
            "modified": bool(_git("status", "--porcelain")),
        },
        "machine": {"system": platform.platform(), "processor": _processor(), "gpu": _gpu()},
    }


def part_of(record: dict, name: str) -> dict:
    """Return a part of such a description; {} if a record lacks it or holds another type."""
    value = record.get(name)
    return value if isinstance(value, dict) else {}


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _git(*arguments: str) -> str | None:
    command = ["git", "--no-optional-locks", "-C", str(CODE), *arguments]  # a kill would leave index.lock
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return run.stdout.strip() if run.returncode == 0 else None


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor()


def _gpu() -> str | None:
    torch = sys.modules.get("torch")
    return torch.cuda.get_device_name() if torch is not None and torch.cuda.is_available() else None
