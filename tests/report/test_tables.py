"""Contents of tables, compared with arithmetic by hand or by the standard library."""

import csv
import io
import statistics

import pytest

from fdbpl.errors import UserError
from fdbpl.report import write_report
from fdbpl.report.report import read_results
from fdbpl.report.tables import make_sections


def h(base, new):
    return statistics.harmonic_mean([base, new])


def tables_of(tree, protocol=None):
    """{(protocol, title): {row: {column: cell}}}"""
    found = {}
    for section in make_sections(read_results(tree.output), protocol):
        for table in section.tables:
            found[section.protocol, table.title] = {
                row.name: dict(zip(table.columns, row.cells, strict=True)) for row in table.rows
            }
    return found


def texts(row, *columns):
    return [row[column].text for column in columns]


def test_cells_are_means_and_standard_deviations_over_seeds(tree):
    runs = {1: (80.0, 60.0), 2: (90.123456, 70.0), 3: (70.0, 50.0)}
    for seed, (base, new) in runs.items():
        tree.pair(base, new, seed=seed)
    row = tables_of(tree)["base2new", "demo"]["CoOp"]
    scores = [h(*pair) for pair in runs.values()]
    bases = [base for base, _ in runs.values()]
    assert row["base"].text == f"{statistics.mean(bases):.2f} ± {statistics.stdev(bases):.2f}"
    assert row["H"].text == f"{h(80.041152, 60.0):.2f}"
    assert row["mean H of runs"].text == f"{statistics.mean(scores):.2f} ± {statistics.stdev(scores):.2f}"
    assert texts(row, "runs", "parameters", "ms/step", "training s", "total s", "MiB") == [
        "3", "512", "100.0", "10.0", "14.0", "1000"
    ]  # fmt: skip


def test_h_is_that_of_the_mean_accuracies(tree):
    """Convention of published tables, see issue 3 of multimodal-prompt-learning; the mean of the runs' H is 51.30."""
    for seed, new in enumerate((20.0, 40.0, 60.0), start=1):
        tree.pair(80.0, new, seed=seed)
    assert texts(tables_of(tree)["base2new", "demo"]["CoOp"], "H", "mean H of runs") == ["53.33", "51.30 ± 18.37"]


def test_training_on_all_classes_has_a_separate_table(tree):
    """LEARN=all is not averaged with runs on base classes of the same method and seeds."""
    for seed in (1, 2):
        tree.pair(80.0, 60.0, seed=seed)
        key = tree.run("train_all", classes="all", accuracy=70.0, seed=seed)
        for half, accuracy in (("base", 90.0), ("new", 85.0)):
            tree.run(f"base2new_all/test_{half}", classes=half, tests=key, accuracy=accuracy, seed=seed)
    tables = tables_of(tree)
    assert texts(tables["base2new", "demo"]["CoOp"], "runs", "base", "new") == ["2", "80.00 ± 0.00", "60.00 ± 0.00"]
    row = tables["base2new_all", "demo"]["CoOp"]
    assert texts(row, "runs", "base", "new", "H") == ["2", "90.00 ± 0.00", "85.00 ± 0.00", f"{h(90, 85):.2f}"]
    assert "trained on all classes" in write_report(tree.output)


def test_missing_test_after_training_on_all_classes(tree):
    key = tree.run("train_all", classes="all")
    tree.run("base2new_all/test_base", classes="base", tests=key)
    tree.plan("base2new_all")
    (missing,) = [one for one in read_results(tree.output).missing if one.protocol == "base2new_all"]
    assert missing.reason == "trained, not tested on the new classes yet"


def test_average_h_is_that_of_the_average_accuracies(tree):
    """As in published tables; the mean of the data sets' H would be 63.3 here."""
    for dataset, base, new in (("caltech101", 100.0, 50.0), ("dtd", 50.0, 75.0)):
        tree.pair(base, new, dataset=dataset)
        tree.pair(base, new, dataset=dataset, seed=2)
    tree.pair(99.0, 99.0, dataset="dtd", trainer="MaPLe")
    found = tables_of(tree)["base2new", "Average over 2 data sets"]
    assert texts(found["CoOp"], "base", "new", "H") == ["75.00", "62.50", f"{h(75.0, 62.5):.2f}"]
    assert (h(100, 50) + h(50, 75)) / 2 != pytest.approx(h(75, 62.5), abs=1)
    assert texts(found["MaPLe"], "base", "new", "H") == ["-", "-", "-"]  # a data set is missing


def test_best_and_second_best_are_marked(tree):
    for trainer, base in (("CoOp", 80.0), ("MaPLe", 80.001), ("VPT", 70.0), ("IVLP", 60.0)):
        tree.pair(base, 50.0, trainer=trainer)
    found = tables_of(tree)["base2new", "demo"]
    marks = {name: row["base"].mark for name, row in found.items()}
    assert marks == {"CoOp": "best", "MaPLe": "best", "VPT": "second", "IVLP": ""}
    assert {row["MiB"].mark for row in found.values()} == {""}


def test_a_single_row_is_not_marked(tree):
    tree.pair(80.0, 60.0)
    assert tables_of(tree)["base2new", "demo"]["CoOp"]["H"].mark == ""


def test_order_of_rows_without_and_with_a_plan(tree):
    for trainer in ("FDBPL_MaPLe", "CoOp", "MaPLe", "FDBPL", "CoOp_KDPL", "ZeroshotCLIP"):
        tree.pair(80.0, 60.0, trainer=trainer)
    names = list(tables_of(tree)["base2new", "demo"])
    assert names == ["ZeroshotCLIP", "CoOp", "CoOp_KDPL", "FDBPL", "MaPLe", "FDBPL_MaPLe"]
    tree.plan(trainer="MaPLe", label="ours")
    tree.plan(trainer="CoOp", label="theirs")
    assert list(tables_of(tree)["base2new", "demo"])[:3] == ["ours", "theirs", "ZeroshotCLIP"]


def test_row_names_show_overrides(tree):
    tree.pair(80.0, 60.0)
    tree.pair(70.0, 60.0, config="demo+OPTIM.LR=1")
    assert list(tables_of(tree)["base2new", "demo"]) == ["CoOp", "CoOp (OPTIM.LR=1)"]


def test_each_key_of_a_plan_is_averaged_over(tree):
    for split, base in ((1, 80.0), (2, 90.0)):
        tree.pair(base, base, config=f"demo+SPLIT={split}", tested={"images": split, "sha256": f"of split {split}"})
        tree.plan(config=f"demo+SPLIT={split}", each="SPLIT")
    assert texts(tables_of(tree)["base2new", "demo"]["CoOp"], "runs", "base") == ["2", "85.00 ± 7.07"]


def test_backbones_and_shots_have_separate_tables(tree):
    tree.pair(80.0, 60.0)
    tree.pair(70.0, 60.0, backbone="demo:rn-student", seed=2)
    tree.pair(60.0, 60.0, shots=4, seed=3)
    settings = [section.setting for section in make_sections(read_results(tree.output))]
    assert len(settings) == 3 and len(set(settings)) == 3


def test_few_shot_tables(tree):
    for dataset, offset in (("dtd", 0.0), ("ucf101", 10.0)):
        for shots in (1, 16):
            for seed in (1, 2):
                tree.run("train_all", dataset=dataset, shots=shots, seed=seed, classes="all",
                         accuracy=50.0 + offset + shots + seed)  # fmt: skip
    found = tables_of(tree)
    assert texts(found["few_shot", "dtd"]["CoOp"], "1 shot", "16 shots") == ["52.50 ± 0.71", "67.50 ± 0.71"]
    average = found["few_shot", "Average over 2 data sets"]["CoOp"]
    assert texts(average, "runs", "1 shot", "16 shots") == ["8", "57.50", "72.50"]


def test_cross_dataset_and_domain_generalization_tables(tree):
    for seed in (1, 2):
        key = tree.run("train_all", dataset="demo", classes="all", accuracy=99.0, seed=seed)
        for target, accuracy in (
            ("demo_colours", 40.0),
            ("food101", 60.0),
            ("demo_sketch", 10.0),
            ("demo_world", 30.0),
        ):
            tree.run(f"evaluation/{target}", dataset=target, source="demo", classes="all", accuracy=accuracy + seed,
                     seed=seed, tests=key)  # fmt: skip
    found = tables_of(tree)
    cross, shifted = found["cross_dataset", "From demo"]["CoOp"], found["domain_generalization", "From demo"]["CoOp"]
    assert list(cross) == ["runs", "demo (source)", "food101", "demo_colours", "average of 2 targets"]
    assert texts(cross, "demo (source)", "food101", "average of 2 targets") == ["99.00 ± 0.00", "61.50 ± 0.71", "51.50"]
    assert texts(shifted, "demo_sketch", "demo_world", "average of 2 shifts") == [
        "11.50 ± 0.71", "31.50 ± 0.71", "21.50"
    ]  # fmt: skip


def test_published_numbers_are_shown_for_the_same_setting_only(tree):
    tree.pair(80.0, 60.0, dataset="eurosat", backbone="ViT-B/16")
    row = tables_of(tree)["base2new", "eurosat"]["PromptSRC (published)"]
    assert texts(row, "base", "new", "H") == ["92.90", "73.90", "82.32"]
    tree.pair(80.0, 60.0, dataset="eurosat", backbone="RN50", seed=2)
    tree.pair(80.0, 60.0, dataset="eurosat", backbone="ViT-B/16", seed=3, shots=4)
    found = [
        section.setting for section in make_sections(read_results(tree.output))
        if any(row.published for table in section.tables for row in table.rows)
    ]  # fmt: skip
    assert found == ["photographs, 16 shots, student ViT-B/16"]


def test_published_averages(tree):
    for dataset in ("caltech101", "dtd"):
        tree.pair(80.0, 60.0, dataset=dataset, backbone="ViT-B/16")
    some = tables_of(tree)["base2new", "Average over 2 data sets"]["CoOp (published)"]
    base, new = (98.00 + 79.44) / 2, (89.81 + 41.18) / 2
    assert texts(some, "base", "new", "H") == [f"{base:.2f}", f"{new:.2f}", f"{h(base, new):.2f}"]
    others = "imagenet oxford_pets stanford_cars oxford_flowers food101 fgvc_aircraft sun397 eurosat ucf101"
    for dataset in others.split():
        tree.pair(80.0, 60.0, dataset=dataset, backbone="ViT-B/16")
    whole = tables_of(tree)["base2new", "Average over 11 data sets"]
    assert texts(whole["CoOp (published)"], "base", "new", "H") == ["82.69", "63.22", "71.66"]
    assert texts(whole["TCP (published)"], "base", "new", "H") == ["84.13", "75.36", "79.51"]  # averages alone


def test_published_numbers_are_consistent():
    """Against typing errors; three H are inconsistent in the papers themselves."""
    from fdbpl.report.protocols import read_published

    off = []
    for row in read_published("base2new", "ViT-B/16", 16):
        for name, (base, new, score) in {**row.values, "average": row.average}.items():
            if abs(h(base, new) - score) > 0.021:
                off.append((row.trainer, name))
    assert off == [("PromptKD", "stanford_cars"), ("PromptKD", "ucf101"), ("RPO", "average")]
    for row in read_published("cross_dataset", "ViT-B/16", 16, "imagenet"):
        means = [row.values[name][0] for name in row.over]
        assert statistics.mean(means) == pytest.approx(row.average[0], abs=0.011)
    for backbone, count in (("ViT-B/16", 6), ("ViT-B/32", 12), ("RN50", 7)):
        rows = read_published("domain_generalization", backbone, 16, "imagenet")
        assert len(rows) == count
        for row in rows:
            means = [row.values[name][0] for name in row.over]
            assert statistics.mean(means) == pytest.approx(row.average[0], abs=0.011)


def test_transfer_averages_count_each_target_once(tree):
    key = tree.run("train_all", classes="all", accuracy=99.0)
    for place, target, accuracy in (("a", "demo_colours", 40.0), ("b", "demo_colours", 40.0), ("c", "demo", 99.0),
                                    ("d", "food101", 60.0)):  # fmt: skip
        tree.run(place, dataset=target, source="demo", classes="all", accuracy=accuracy, tests=key)
    row = tables_of(tree)["cross_dataset", "From demo"]["CoOp"]
    assert texts(row, "average of 2 targets") == ["50.00"]


def test_a_test_without_training_takes_no_training_time(tree):
    tree.pair(80.0, 60.0, trainer="ZeroshotCLIP", steps=0, parameters=0)
    assert texts(tables_of(tree)["base2new", "demo"]["ZeroshotCLIP"], "training s") == ["0.0"]


def test_csv_has_every_run_at_full_precision(tree):
    key = tree.pair(80 + 1 / 3, 60 + 1 / 7)
    tree.pair(50.0, None, seed=2)
    write_report(tree.output, gallery=False)
    rows = list(csv.DictReader(io.StringIO((tree.output / "report/table.csv").read_text())))
    assert len(rows) == 4 and key
    by_place = {(row["task"], row["seed"]): row for row in rows}
    assert float(by_place["train", "1"]["accuracy"]) == 80 + 1 / 3
    assert float(by_place["test", "1"]["H"]) == pytest.approx(h(80 + 1 / 3, 60 + 1 / 7), abs=1e-12)
    assert by_place["test", "2"]["state"] == "unfinished: in its test" and by_place["test", "2"]["accuracy"] == ""


def test_one_protocol_is_returned_and_the_files_hold_all(tree):
    tree.pair(80.0, 60.0)
    tree.run("train_all", classes="all")
    text = write_report(tree.output, "few_shot", gallery=False)
    assert "## Few-shot" in text and "## Base-to-new" not in text
    assert "## Base-to-new" in (tree.output / "report/table.md").read_text()
    assert "| CoOp | 1 | 80.00 | 60.00 | 68.57 | 68.57 | 512 |" in (tree.output / "report/table.md").read_text()


def test_folders_without_runs(tree):
    with pytest.raises(UserError, match="There is no folder .*output"):
        write_report(tree.output)
    tree.write("notes/readme.txt", "")
    with pytest.raises(UserError, match="no runs below .*run.json, or with a log.txt of Dassl.*only: notes"):
        write_report(tree.output)
