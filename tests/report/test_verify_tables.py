"""The tables of a report name their runs, and are computed again from them."""

import json
import re
import shutil

import pytest

from fdbpl.findings import NOTE, WRONG
from fdbpl.report import write_report
from fdbpl.report.verify import verify_tables

from .conftest import Tree


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Runs of every protocol, several data sets, seeds and methods, unfinished ones, published rows, a foreign log."""
    tree = Tree(tmp_path_factory.mktemp("world") / "output")
    for dataset, offset in (("caltech101", 1 / 3), ("dtd", 10.0)):
        for trainer in ("CoOp", "FDBPL"):
            for seed in (1, 2, 3):
                tree.pair(60 + offset + seed, 40 + offset * seed, dataset=dataset, trainer=trainer, seed=seed,
                          backbone="ViT-B/16", seconds={"train": 10.0 + seed})  # fmt: skip
        for shots in (1, 16):
            tree.run("train_all", dataset=dataset, shots=shots, classes="all", accuracy=50.0 + shots, seed=1)
    tree.pair(60.0, 50.0, dataset="dtd", trainer="MaPLe", backbone="ViT-B/16")  # lacks a data set
    tree.pair(60.0, None, dataset="dtd", trainer="MaPLe", backbone="ViT-B/16", seed=2)
    for seed in (1, 2):
        key = tree.run("train_all", dataset="demo", classes="all", accuracy=90.0 + seed, seed=seed)
        for target in ("demo_colours", "food101", "demo_sketch", "demo_world"):
            tree.run(f"evaluation/{target}", dataset=target, source="demo", classes="all", accuracy=30.0 + seed / 7,
                     seed=seed, tests=key)  # fmt: skip
    tree.log("theirs/base", accuracy="81.3", dataset="eurosat")
    tree.log("theirs/new", accuracy="61.4", dataset="eurosat", classes="new", model_dir="output/theirs/base")
    tree.plan(dataset="dtd", trainer="MaPLe", seed=1)
    tree.plan(dataset="dtd", trainer="MaPLe", seed=2)
    write_report(tree.output, gallery=False)
    return tree


@pytest.fixture
def world(written, tree):
    """A copy of it, to be spoilt."""
    shutil.copytree(written.output, tree.output)
    return tree


def wrong(tree) -> list[str]:
    return [f"{finding.place}: {finding.sentence}" for finding in verify_tables(tree.output) if finding.mark == WRONG]


def tables(tree) -> dict:
    return json.loads((tree.output / "report/table.json").read_text())


def test_every_cell_of_ours_names_its_runs(world):
    content = tables(world)
    cells = 0
    for table in content["tables"]:
        for row in table["rows"]:
            for column, (text, values) in row["cells"].items():
                assert bool(values) == (text not in ("", "-") and not row["published"]), (row["name"], column)
                cells += bool(values)
                paths = [content["runs"][number] for value in values for number in value]
                assert all((world.output / path).is_dir() for path in paths)
    assert cells == 95 and {table["protocol"] for table in content["tables"]} == {
        "base2new", "few_shot", "cross_dataset", "domain_generalization"
    }  # fmt: skip
    average = next(table for table in content["tables"] if table["title"].startswith("Average over 3"))
    coop = next(row for row in average["rows"] if row["name"] == "CoOp")
    assert coop["cells"]["H"] == ["-", []]


def test_a_cell_is_made_of_the_runs_that_it_names(world):
    content = tables(world)
    (table,) = [t for t in content["tables"] if (t["protocol"], t["title"]) == ("base2new", "dtd")]
    (row,) = [row for row in table["rows"] if row["name"] == "FDBPL"]
    text, values = row["cells"]["mean H of runs"]
    files = [[world.output / content["runs"][number] / "metrics.json" for number in pair] for pair in values]
    accuracies = [[json.loads(file.read_text())["accuracy"] for file in pair] for pair in files]
    assert accuracies == [[70.0 + seed, 40.0 + 10 * seed] for seed in (1, 2, 3)]
    mean = sum(2 * base * new / (base + new) for base, new in accuracies) / 3
    assert text.startswith(f"{mean:.2f} ± ")


def test_tables_as_they_were_written(world):
    assert wrong(world) == []
    found = list(verify_tables(world.output))
    assert all(finding.mark == "ok" for finding in found) and re.match(r"\d+ cells of 42 runs", found[0].sentence)


def test_every_number_of_every_cell_is_looked_at(world):
    """A last digit that is another one, in each cell in turn."""
    content, file = tables(world), world.output / "report/table.json"
    for table in content["tables"]:
        for row in table["rows"]:
            for column, cell in row["cells"].items():
                if not cell[1]:
                    continue
                for number in re.finditer(r"\d(?=\D|$)", cell[0].partition(" of ")[0]):
                    if cell[0][number.end() : number.end() + 1] in (".", ","):
                        continue
                    good, place = cell[0], number.start()
                    cell[0] = f"{good[:place]}{(int(good[place]) + 1) % 10}{good[place + 1 :]}"
                    file.write_text(json.dumps(content))
                    (problem,) = wrong(world)
                    assert f"{row['name']}, {column}: " in problem and f"found {cell[0]}" in problem
                    cell[0] = good


def test_a_run_that_changed_since(world):
    file = next((world.output / "base2new/train_base/dtd").rglob("metrics.json"))
    metrics = json.loads(file.read_text())
    file.write_text(json.dumps(metrics | {"accuracy": metrics["accuracy"] + 1}))
    problems = wrong(world)
    assert any(", base: expected " in problem for problem in problems)
    assert any(", H: expected " in problem for problem in problems)
    assert any("table.csv: expected accuracy" in problem for problem in problems)


def test_a_run_that_is_gone(world):
    shutil.rmtree(world.output / "evaluation/food101")
    assert any("its run evaluation/food101/" in problem and "is not here" in problem for problem in wrong(world))


def test_a_cell_that_names_no_run_or_too_few(world):
    content = tables(world)
    rows = next(t for t in content["tables"] if t["title"] == "dtd" and t["protocol"] == "base2new")["rows"]
    cells = next(row for row in rows if row["name"] == "FDBPL")["cells"]
    cells["base"][1], cells["new"][1] = [], cells["new"][1][:2]
    (world.output / "report/table.json").write_text(json.dumps(content))
    first, second = wrong(world)
    assert "names no run" in first and "new: expected " in second


def test_a_run_that_came_later_is_told_and_no_fault(world):
    world.pair(70.0, 60.0, dataset="caltech101", trainer="VPT", backbone="ViT-B/16")
    found = list(verify_tables(world.output))
    assert [finding.mark for finding in found].count(NOTE) == 1
    assert "2 runs have finished since it was written" in next(f.sentence for f in found if f.mark == NOTE)


@pytest.mark.parametrize("text", ["", "[]", '{"tables": [{"rows": 3}], "runs": []}', '{"runs": [], "tables": {}}'])
def test_tables_that_are_none(world, text):
    (world.output / "report/table.json").write_text(text)
    problems = wrong(world)
    assert len(problems) <= 1
    assert problems or text.endswith("{}}")


def test_a_csv_that_is_gone(world):
    (world.output / "report/table.csv").unlink()
    assert ["table.csv: it is missing" in problem for problem in wrong(world)] == [True]
