"""Python, packages, torch and what has to fit it."""

from __future__ import annotations

import importlib
import importlib.util
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from fdbpl.doctor.findings import ROOT, Finding, fine, imports, present, problem, reason, version, warning

INSTALL = "pip install -r requirements.txt, or any script of scripts/, which makes its own environment in .venv"
# packages that are imported under another name
MODULES = {"pyyaml": "yaml", "pillow": "PIL", "scikit-learn": "sklearn"}
TOLD_APART = {"torch", "torchvision", "openai-clip", "setuptools"}


def python() -> Iterator[Finding]:
    found = f"{platform.python_version()} ({sys.executable})"
    if sys.version_info < (3, 10):  # noqa: UP036 (this very file may be asked by an older one)
        yield problem("Python", found, "install Python 3.10 or newer, e.g. apt-get install python3 python3-venv")
    else:
        yield fine("Python", found)
    own = Path(os.environ.get("FDBPL_VENV", ROOT / ".venv"), "bin", "python")
    if own.is_file() and Path(sys.prefix).resolve() != own.parents[1].resolve():
        yield warning("", "not the Python of the scripts' environment", f"ask that one: {own} -m fdbpl.doctor")


def requirements() -> list[tuple[str, str]]:
    """(package, version range) pairs of requirements.txt, or of the installed distribution."""
    file = ROOT / "requirements.txt"
    if file.is_file():
        included = re.findall(r"^-r (\S+)", file.read_text(), re.M)
        lines = [line for name in included for line in (ROOT / name).read_text().splitlines()]
    else:
        lines = metadata.requires("fdbpl") or []
    found = []
    for line in lines:
        match = re.match(r"([\w.-]+)\s*([^;#]*)", line.strip())
        if match and "extra ==" not in line:
            found.append((match[1], match[2].strip()))
    return found


def fits(found: str, wanted: str) -> bool:
    """Whether a version lies in a range of >=, < and == parts; what follows its numbers (rc1, +cu130) is ignored."""

    def numbers(text: str) -> list[int]:
        return [int(part) for part in re.findall(r"^[\d.]*", text)[0].strip(".").split(".") if part]

    holds = {">=": lambda a, b: a >= b, "<": lambda a, b: a < b, "==": lambda a, b: a == b}
    for part in filter(None, wanted.split(",")):
        match = re.match(r"\s*(>=|<|==)\s*([\d.]+)", part)
        if match and not holds[match[1]](numbers(found), numbers(match[2])):
            return False
    return True


def packages() -> Iterator[Finding]:
    others = [(name, wanted) for name, wanted in requirements() if name not in TOLD_APART]
    missing = [name for name, _ in others if not present(MODULES.get(name, name))]
    old = [f"{name} {found} (needs {wanted})" for name, wanted in others
           if (found := version(name)) and not fits(found, wanted)]  # fmt: skip
    if missing or old:
        found = "; ".join(["missing: " + ", ".join(missing)] * bool(missing) + ["unfit: " + ", ".join(old)] * bool(old))
        yield problem("packages", found, INSTALL)
    else:
        yield fine("packages", f"{len(others)} of requirements.txt, beside those below")


def torch_and_gpu() -> Iterator[Finding]:
    if not present("torch"):
        yield problem("torch", "none", "pip install torch torchvision")
        return
    try:
        torch = importlib.import_module("torch")
        found = torch.__version__
        torch.zeros(1).sum()
    except (Exception, SystemExit) as error:
        remedy = "pip install --force-reinstall torch torchvision"
        yield problem("torch", f"{version('torch')}, does not work ({reason(error)})", remedy)
        return
    wanted = dict(requirements()).get("torch", "")
    if not fits(found, wanted):
        yield problem("torch", f"{found} (needs {wanted})", "pip install --upgrade torch torchvision")
        return
    yield fine("torch", found)
    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            yield gpu(torch, number)
    elif torch.version.cuda is None:
        yield warning("GPU", "none: this torch is built for CPUs", "PREC fp32; for a GPU install torch's CUDA build")
    else:
        remedy = "PREC fp32; where nvidia-smi shows a GPU, its driver is older than this torch asks for"
        yield warning("GPU", f"none that torch (CUDA {torch.version.cuda}) can use", remedy)


def gpu(torch, number: int) -> Finding:
    """Whether one kernel runs on a GPU: torch also lists GPUs that its build has no kernels for."""
    device = torch.cuda.get_device_properties(number)
    found = f"{number}: {device.name}, {device.total_memory / 2**30:.0f} GiB, CUDA {torch.version.cuda}"
    try:
        torch.ones(1, device=f"cuda:{number}").sum().item()
    except Exception as error:
        remedy = "install a torch with kernels for it, or hide it: CUDA_VISIBLE_DEVICES, or USE_CUDA False"
        finding = problem if number == 0 else warning  # runs use the first one, unless told otherwise
        return finding("GPU", f"{found}, cannot compute ({reason(error)})", remedy)
    return fine("GPU", found)


def torchvision() -> Iterator[Finding]:
    if not present("torchvision"):
        yield problem("torchvision", "none", "pip install torch torchvision")
        return
    if not imports("torch"):
        yield problem("torchvision", f"{version('torchvision')}, not tried without torch", "mend torch first")
        return
    try:
        importlib.import_module("torchvision")
        ops, torch = importlib.import_module("torchvision.ops"), sys.modules["torch"]
        ops.nms(torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.ones(1), 0.5)
    except (Exception, SystemExit) as error:
        pair = f"torchvision {version('torchvision')} with torch {version('torch')}"
        remedy = "they do not belong together: pip install --force-reinstall torch torchvision, in one command"
        yield problem("torchvision", f"{pair} does not work ({reason(error)})", remedy)
        return
    yield fine("torchvision", f"{version('torchvision')}, of this torch")


def clip() -> Iterator[Finding]:
    if not present("clip"):
        yield problem("clip", "none", "pip install openai-clip")
        return
    spec = importlib.util.find_spec("clip")
    origin = spec.origin if spec else None
    if not origin or not Path(origin).with_name("model.py").is_file():
        yield problem("clip", f"not OpenAI's: {origin or 'a folder of that name'}",
                      "pip uninstall -y clip && pip install openai-clip")  # fmt: skip
        return
    if not present("pkg_resources"):
        yield problem("clip", "lacks pkg_resources", "pip install 'setuptools<81'")
        return
    if not imports("torch"):
        yield problem("clip", "not tried without torch", "mend torch first")
        return
    from fdbpl.backbones.openai_package import clip_package
    from fdbpl.errors import UserError

    try:
        package = clip_package()
    except UserError as error:
        sentence, _, remedy = str(error).partition("; ")
        yield problem("clip", sentence, remedy)
    except Exception as error:
        yield problem("clip", f"does not import ({reason(error)})", "pip install --force-reinstall openai-clip")
    else:
        yield fine("clip", f"OpenAI's {version('openai-clip') or ''} ({Path(str(package.__file__)).parent})")


def dassl() -> Iterator[Finding]:
    if not imports("torch"):
        yield problem("Dassl", "not tried without torch", "mend torch first")
        return
    from fdbpl.errors import UserError

    try:
        if (ROOT / "third_party" / "dassl_source.py").is_file():
            line = importlib.import_module("third_party").use_dassl()
        else:
            place = str(importlib.import_module("dassl.engine").__file__)
            patched = importlib.import_module("fdbpl.third_party.dassl_patches").apply_patches()
            line = f"installed ({Path(place).parents[1]}), patched: {', '.join(patched) or 'nothing'}"
    except UserError as error:
        sentence, _, remedy = str(error).partition("; ")
        yield problem("Dassl", sentence, remedy)
    except (Exception, SystemExit) as error:
        remedy = "install what it lacks, or run from a checkout of FDBPL without another Dassl: it brings a stand-in"
        yield problem("Dassl", f"does not import ({reason(error)})", remedy)
    else:
        yield fine("Dassl", line.removeprefix("Dassl: "))


def cuda_of_driver() -> str | None:
    """Major CUDA version that the NVIDIA driver supports, by nvidia-smi; None without a driver."""
    try:
        printed = subprocess.run(["nvidia-smi"], capture_output=True, text=True, timeout=30).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(r"CUDA[^:\n]*Version: *(\d+)", printed)
    return found[1] if found else None


def dali() -> Iterator[Finding]:
    cuda = cuda_of_driver()
    wanted = "nvidia-dali-cuda120" if cuda == "12" else "nvidia-dali-cuda130"
    remedy = f"torchvision decodes instead. To use DALI (Linux): pip install {wanted}"
    installed = [name for name in metadata_names() if name.startswith("nvidia-dali-cuda")]
    if not installed or not present("nvidia.dali"):
        yield warning("DALI", "none", remedy)
        return
    found = ", ".join(f"{version(name)} ({name})" for name in installed)
    if len(installed) > 1 or (cuda == "12" and wanted not in installed):  # a driver of CUDA 13 runs both
        why = "two builds share one folder" if len(installed) > 1 else f"the driver supports CUDA {cuda} only"
        replace = f"pip uninstall -y {' '.join(installed)} && pip install {wanted}"
        yield warning("DALI", f"{found}, but {why}", replace)
    if not imports("nvidia.dali"):
        yield warning("DALI", f"{found}, does not import", remedy)
    elif not imports("torch"):
        yield warning("DALI", f"{found}, not tried without torch", "fix torch first")
    else:
        yield from dali_devices(found, remedy)


def dali_devices(found: str, remedy: str) -> Iterator[Finding]:
    """Whether a pipeline of DALI can be built on the CPU and on each GPU."""
    from fdbpl.pipelines.dali import DaliPipeline

    try:
        DaliPipeline(ROOT, size=8, batch_size=1, workers=1)
    except Exception as error:
        yield warning("DALI", f"{found}, does not work ({reason(error)})", remedy)
        return
    yield fine("DALI", f"{found}, decodes on the CPU")
    torch = sys.modules["torch"]
    for number in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        try:
            DaliPipeline(ROOT, size=8, batch_size=1, device=f"cuda:{number}", workers=1, dali_device="gpu")
        except Exception as error:
            yield warning("DALI", f"cannot decode on GPU {number} ({reason(error)})", "keep REGIONS.DALI_DEVICE cpu")
        else:
            yield fine("DALI", f"can decode on GPU {number} (REGIONS.DALI_DEVICE gpu)")


def metadata_names() -> list[str]:
    return [str(one.metadata["Name"]).lower() for one in metadata.distributions() if one.metadata["Name"]]


def open_clip() -> Iterator[Finding]:
    if present("open_clip"):
        yield fine("open_clip", version("open_clip_torch") or "there")
    else:
        yield warning("open_clip", "none: for teachers by its names", "pip install open_clip_torch")
