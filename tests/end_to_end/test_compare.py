"""`bash scripts/compare.sh` and `bash scripts/ablation.sh`, as users type them."""

import re

import pytest

SHORT = ("OPTIM.MAX_EPOCH", 2)


def table(lines: list[str]) -> dict[str, list[str]]:
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    return {row[0]: row[1:] for row in rows[2:]}


def test_side_by_side_and_not_again(scripts):
    arguments = ("demo", "1", "ZeroshotCLIP FDBPL", *SHORT)
    lines = scripts.succeed("compare.sh", *arguments, STUDENT="demo")
    assert any(line.startswith("Region banks, once for all of it") for line in lines)
    rows = table(lines)
    assert list(rows) == ["ZeroshotCLIP", "FDBPL"]
    for name, (runs, base, new, h, learnt, step, *_) in rows.items():
        assert runs == "1" and float(h) == pytest.approx(2 / (1 / float(base) + 1 / float(new)), abs=0.02)
        assert (learnt, step) == ("0", "-") if name == "ZeroshotCLIP" else float(step) > 0
    assert rows["FDBPL"][4] == "1,024"
    done = {file: file.stat().st_mtime_ns for file in scripts.output.rglob("done.json")}
    assert table(scripts.succeed("compare.sh", *arguments, STUDENT="demo")) == rows
    assert {file: file.stat().st_mtime_ns for file in scripts.output.rglob("done.json")} == done


def test_a_failed_run_is_named_and_the_others_go_on(scripts):
    run = scripts.run("compare.sh", "demo", "1", "ZeroshotCLIP ProGrad_KDPL")
    assert run.returncode == 1 and "Traceback" not in run.stderr
    assert re.search(r"found 1 that did not.*\n.*ProGrad_KDPL.*expected a registered name.*ProGrad", run.stderr)
    rows = table(run.stdout.splitlines())
    assert rows["ZeroshotCLIP"][0] == "1" and rows["ProGrad_KDPL"][0] == "0 of 1"


def test_the_rows_of_the_ablation(scripts):
    rows = table(scripts.succeed("ablation.sh", "demo", " "))
    assert list(rows)[:4] == ["bank only", "+ w", "+ negative space", "+ PCD (= FDBPL)"] and len(rows) == 7


def test_a_mistyped_data_set_is_a_sentence(scripts):
    run = scripts.run("compare.sh", "dmeo")
    assert run.returncode == 2 and "expected a data set of" in run.stderr
