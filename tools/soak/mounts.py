"""Full disks and read-only folders on mounts in a private namespace: `python -m tools.soak.mounts FAULT ...`

`in_namespace` runs this module in a new mount namespace, without root permissions if the system allows it.
"""

import shutil
import subprocess
import sys
from pathlib import Path

from tools.soak import comparing
from tools.soak.comparing import Lost, require
from tools.soak.killing import TIED_TO_PARENT
from tools.soak.scenarios import ROOT, SCENARIOS, Place, Scenario

NAMESPACE = ["unshare", "--user", "--map-root-user", "--mount"]
FULL = "free some space"
STEPS = {"grid": 4}  # runs on a full disk before there is enough space
SPARED = {"split_fewshot"}  # runs succeed without it and check the images again


def possible() -> bool:
    """Check whether this system permits mounts."""
    if shutil.which("unshare") is None:
        return False
    mount = [*NAMESPACE, "sh", "-c", "mount -t tmpfs tmpfs /mnt && mount -o remount,size=1m /mnt"]
    return subprocess.run(mount, capture_output=True).returncode == 0


def in_namespace(fault: str, scenario: Scenario, place: Place, undisturbed: Place) -> str:
    """Run a fault of this module in a new namespace and return its output.

    Raises:
        Lost: the fault failed.
    """
    arguments = [fault, scenario.name, place.folder, place.data, place.mirror or "-", undisturbed.folder]
    command = [*TIED_TO_PARENT, *NAMESPACE, sys.executable, "-m", "tools.soak.mounts", *map(str, arguments)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900)
    require(run.returncode == 0, f"{fault} of {scenario.name}: {run.stdout[-500:]}{run.stderr[-2500:]}")
    return run.stdout.strip()


def disk_full(scenario: Scenario, place: Place, undisturbed: Place) -> str:
    """Run repeatedly on a disk that fills up, with more space each time and finally with enough."""
    total = sum(file.stat().st_size for file in undisturbed.output.rglob("*") if file.is_file())
    place.output.mkdir()
    failures, steps = 0, STEPS.get(scenario.part, 8)
    for step in range(1, steps):
        size = max(16 << 10, total * step // steps)
        _mount(place.output, "tmpfs", f"size={size}", remount=step > 1)
        before = comparing.finished(place.output)
        command = scenario.start(place)
        output, errors = command.process.communicate(timeout=300)
        code = command.process.returncode
        require(code in (0, 1) and "Traceback" not in errors, f"a full disk ended with {code}: {errors[-2500:]}")
        require(code == 0 or FULL in errors, f"the message does not name the full disk: {errors[-1000:]}")
        comparing.require_unchanged(place.output, before)
        failures += code
    _mount(place.output, "tmpfs", "size=2g", remount=True)
    scenario.start(place).succeed()
    comparing.same(undisturbed.output, place.output)
    comparing.require_no_temporary_files(place.output)
    require(failures > 1, "the disk was never full")
    return f"{failures} full disks"


def read_only(scenario: Scenario, place: Place, undisturbed: Place) -> str:
    """Run with each output folder read-only in turn, then with write access."""
    folders = [folder for folder in (undisturbed.output, *undisturbed.output.iterdir()) if folder.is_dir()]
    for folder in folders:
        name = folder.relative_to(undisturbed.output)
        if place.output.exists():
            shutil.rmtree(place.output)
        (place.output / name).mkdir(parents=True)
        _mount(place.output / name, str(place.output / name), "bind")
        _mount(place.output / name, "none", "bind,ro", remount=True)
        if str(name) in SPARED:
            scenario.start(place).succeed()
        else:
            scenario.start(place).fail(1, "the file system is read-only")
        subprocess.run(["umount", place.output / name], check=True)
        comparing.require_no_temporary_files(place.output)
        scenario.start(place).succeed()
        comparing.same(undisturbed.output, place.output)
    return f"{len(folders)} read-only folders"


def _mount(folder: Path, what: str, options: str, remount: bool = False) -> None:
    kind = ["-t", "tmpfs"] if what == "tmpfs" else []
    subprocess.run(["mount", *kind, "-o", "remount," * remount + options, what, str(folder)], check=True)


def main() -> int:
    fault, name, folder, data, mirror, undisturbed = sys.argv[1:]
    (scenario,) = (scenario for scenario in SCENARIOS if scenario.name == name)
    place = Place(Path(folder), Path(data), mirror.strip("-"))
    faults = {"disk_full": disk_full, "read_only": read_only}
    try:
        print(faults[fault](scenario, place, Place(Path(undisturbed), Path(data))))
    except Lost as lost:
        print(f"lost: {lost}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
