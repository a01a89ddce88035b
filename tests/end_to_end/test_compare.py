"""`bash scripts/compare.sh`: tables, failed runs, interrupted grids, and plans."""

import json
import os
import re
import shlex
import signal
import time

import pytest

SHORT = ("OPTIM.MAX_EPOCH", 1)


def table(lines: list[str]) -> dict[str, list[str]]:
    """Rows of the only table by name, without the marks of the best values."""
    rows = [[cell.strip(" *_") for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    return {row[0]: row[1:] for row in rows[2:]}


def grid(scripts) -> list[dict]:
    return json.loads((scripts.output / "grid.json").read_text())["cells"]


def results(scripts) -> dict[str, dict]:
    """The metrics of each run, without times."""
    kept = ("accuracy", "macro_f1", "parameters", "steps", "protocol")
    return {
        str(file.parent.relative_to(scripts.output)): {key: json.loads(file.read_text())[key] for key in kept}
        for file in sorted(scripts.output.rglob("metrics.json"))
    }


TWO_TRAINERS = ("demo", "1", "ZeroshotCLIP FDBPL", *SHORT, "REGIONS.PER_IMAGE", 2)


def test_a_table_of_two_trainers_and_no_repeated_runs(scripts):
    arguments, settings = TWO_TRAINERS, {"STUDENT": "demo", "SHOTS": "2"}
    lines = scripts.succeed_here("compare.sh", *arguments, **settings)
    assert any(line.startswith("Region banks of all runs") for line in lines)
    rows = table(lines)
    names = [f"{trainer} (OPTIM.MAX_EPOCH=1, REGIONS.PER_IMAGE=2)" for trainer in ("ZeroshotCLIP", "FDBPL")]
    assert list(rows) == names
    for name, (runs, base, new, h, _, learned, step, *_) in rows.items():
        assert runs == "1" and float(h) == pytest.approx(2 / (1 / float(base) + 1 / float(new)), abs=0.02)
        assert (learned, step) == ("0", "-") if name.startswith("ZeroshotCLIP") else float(step) > 0
    assert rows[names[1]][5] == "1,024"
    done = {file: file.stat().st_mtime_ns for file in scripts.output.rglob("done.json")}
    assert table(scripts.succeed_here("compare.sh", *arguments, **settings)) == rows
    assert {file: file.stat().st_mtime_ns for file in scripts.output.rglob("done.json")} == done


@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_of_a_grid_in_a_browser(scripts, width):
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    from ..report.browser import chromium, open_page

    lines = scripts.succeed_here("compare.sh", *TWO_TRAINERS, STUDENT="demo", SHOTS="2")
    assert lines[-1].startswith(f"Report of all runs: {scripts.output / 'report' / 'report.html'}")
    try:
        with chromium() as browser:
            for dark in (False, True):
                check_page(*open_page(browser, scripts.output / "report" / "report.html", width, dark), width)
    except playwright.Error as error:
        if "Executable doesn't exist" not in str(error):
            raise
        pytest.skip(f"Chromium cannot be started: {error}")


def check_page(page, errors: list[str], requests: list[str], width: int) -> None:
    """Sort and filter a table, follow a number to its runs, and read a confusion matrix."""
    page.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    table = page.locator("#tables table").first
    names = table.locator("tbody th")
    table.locator("thead button").first.click()
    first = names.all_text_contents()
    table.locator("thead button").first.click()
    assert len(first) == 2 and names.all_text_contents() == first[::-1]
    page.locator(".filter").fill("zeroshotclip")
    assert names.locator("visible=true").count() == 1
    page.locator(".filter").fill("")
    table.locator("tr", has_text="FDBPL").locator("td a").nth(1).click()
    assert "train_base" in page.locator(":target a").first.get_attribute("href")
    label = page.locator("#classes figure [role=img]", has_text="star").last.get_attribute("aria-label")
    assert label.startswith("Confusion matrix of ")
    assert errors == [] and all(address.startswith(("file:", "data:")) for address in requests)


def test_a_failed_run_is_named_and_the_others_go_on(scripts, tmp_path):
    scripts = scripts.elsewhere(tmp_path)
    run = scripts.here("compare.sh", "few_shot", "demo", "1", "ZeroshotCLIP ProGrad_KDPL", SHOTS="1")
    assert run.returncode == 2 and "Traceback" not in run.stderr  # caused by the user's input only
    assert re.search(r"ProGrad_KDPL.*registered name.*ProGrad.*\n.*1 runs failed", run.stderr)
    rows = table(run.stdout.splitlines())
    assert list(rows) == ["ZeroshotCLIP"] and rows["ZeroshotCLIP"][0] == "1"
    missing = r"## Missing\n\n\* ProGrad_KDPL, demo, 1 shot, seed 1: failed: .*registered name.*\n\nReport"
    assert re.search(missing, run.stdout), run.stdout
    cells = {cell["trainer"]: cell for cell in grid(scripts)}
    assert (cells["ZeroshotCLIP"]["status"], cells["ProGrad_KDPL"]["status"]) == ("done", "failed")
    assert "registered name" in cells["ProGrad_KDPL"]["reason"]


def test_values_of_each_are_averaged(scripts, tmp_path):
    run = scripts.elsewhere(tmp_path)
    settings = {"STUDENT": "demo", "EACH": "DATASET.DEMO.CLASS_SPLIT=1,2"}
    rows = table(run.succeed_here("compare.sh", "demo", "1", "ZeroshotCLIP", **settings))
    values = [value["accuracy"] for name, value in results(run).items() if "train_base" in name]
    assert list(rows) == ["ZeroshotCLIP"] and rows["ZeroshotCLIP"][0] == "2"
    assert rows["ZeroshotCLIP"][1].split(" ± ")[0] == f"{sum(values) / 2:.2f}"


def test_a_launched_grid_is_resumed_to_the_same_results(scripts, tmp_path):
    """LAUNCHER=local, one of two runs at a time, interrupted after the first."""
    pytest.importorskip("submitit")
    arguments = ("few_shot", "demo", "1", "CoOp", *SHORT)
    settings = {"STUDENT": "demo", "SHOTS": "1 2", "JOBS": "1"}
    expected = table(scripts.succeed_here("compare.sh", *arguments, **settings))
    assert expected["CoOp (OPTIM.MAX_EPOCH=1)"][0] == "2"

    launched = scripts.elsewhere(tmp_path / "with a space")
    process = launched.start("compare.sh", *arguments, LAUNCHER="local", **settings)
    while not list(launched.output.rglob("done.json")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    assert "the same command continues" in process.communicate(timeout=60)[1] and process.returncode == 130
    assert [cell["status"] for cell in grid(launched)][1] == "planned"

    lines = launched.succeed_here("compare.sh", *arguments, LAUNCHER="local", **settings)
    assert lines[0] == "1 of 2 runs are already there" and lines[1].startswith("[1/1] CoOp demo seed1: 2 shots ")
    assert table(lines) == expected and len(results(launched)) == 2
    assert results(launched).items() <= results(scripts).items()
    assert {cell["status"] for cell in grid(launched)} == {"done"}
    assert list((launched.output / "jobs").glob("*_log.out"))

    lines, calls = planned(launched, *arguments, **{**settings, "SHOTS": "1 2 4"})
    assert lines == ["few_shot: 3 runs (1 row, data sets demo, seeds 1, shots 1 2 4), 2 done, 1 to do"]
    assert [variables["SHOTS"] for variables, _ in calls] == ["1", "2", "4"]


def test_a_transfer_grid_has_targets(scripts, tmp_path):
    run = scripts.elsewhere(tmp_path)
    settings = {"STUDENT": "demo", "SHOTS": "1", "TARGETS": "demo_corrupted"}
    rows = table(run.succeed_here("compare.sh", "domain_generalization", "demo", "1", "ZeroshotCLIP", **settings))
    (cell,) = grid(run)
    assert (cell["protocol"], cell["targets"], cell["shots"], cell["status"]) == (
        "domain_generalization", ["demo_corrupted"], 1, "done",
    )  # fmt: skip
    (test,) = (value["accuracy"] for name, value in results(run).items() if name.startswith("evaluation"))
    assert rows["ZeroshotCLIP"][-2:] == [f"{test:.2f}"] * 2


def planned(scripts, *arguments, **environment) -> tuple[list[str], list[tuple[dict[str, str], list[str]]]]:
    """The summary lines of a plan, and the variables and words (after `bash`) of each command."""
    lines = scripts.succeed_here("compare.sh", *arguments, DRY_RUN="1", **environment)
    calls = []
    for line in lines:
        if line.startswith("  "):
            words = shlex.split(line.removeprefix("  to do ").removeprefix("  done "))
            start = words.index("bash")
            calls.append((dict(word.split("=", 1) for word in words[:start]), words[start + 1 :]))
    return [line for line in lines if not line.startswith("  ")], calls


TEN = "caltech101 oxford_pets stanford_cars oxford_flowers food101 fgvc_aircraft sun397 dtd eurosat ucf101"
SHIFTS = "imagenetv2 imagenet_sketch imagenet_a imagenet_r"
FEW = {"CoOp": "vit_b32", "CoOp_KDPL": "vit_b32", "FDBPL": "vit_b32_ep50_ctxv1",
       "FDBPL_PromptSRC": "vit_b32_c2_ep50_batch4_4+4ctx_few_shot", "MaPLe": "vit_b32_c2_ep5_batch4_2ctx"}  # fmt: skip
TRANSFER = {"CoOp": "vit_b32_ep50_ctxv1", "FDBPL": "vit_b32_ep50_ctxv1", "CoOp_KDPL": "vit_b32_ep50_ctxv1",
            "FDBPL_PromptSRC": "vit_b32_c2_ep20_batch4_4+4ctx_cross_datasets",
            "MaPLe": "vit_b32_c2_ep2_batch4_2ctx_cross_datasets"}  # fmt: skip


@pytest.mark.parametrize(
    ("protocol", "targets", "configs"),
    [("few_shot", None, FEW), ("cross_dataset", TEN, TRANSFER), ("domain_generalization", SHIFTS, TRANSFER)],
)
def test_the_plan_on_real_data(scripts, tmp_path, protocol, targets, configs):
    """A plan lists each method's file, the data sets and what is missing, and creates nothing."""
    run = type(scripts)(tmp_path, data=tmp_path / "data")
    lines, calls = planned(run, protocol, "imagenet", "2", " ".join(configs), STUDENT="vit_b32", FDBPL_CLIP_CACHE="/n")
    points = 5 if protocol == "few_shot" else 1
    assert f"{len(calls)} runs" in lines[0] and len(calls) == len(configs) * points and "0 done" in lines[0]
    for variables, (script, dataset, seed, trainer) in calls:
        assert (script, dataset, seed) == (f"scripts/{protocol}.sh", "imagenet", "2")
        assert (variables["CFG"], variables.get("TARGETS")) == (configs[trainer], targets)
    assert [variables["SHOTS"] for variables, _ in calls[:points]] == ["1", "2", "4", "8", "16"][-points:]
    assert re.search("missing weights.*: ViT-B/32, open_clip:ViT-H-14-quickgelu/dfn5b$", lines[1])
    assert re.match("missing data sets, expected below .*: .*imagenet .imagenet/images.", lines[2])
    assert not run.output.exists() and not run.data.exists()
