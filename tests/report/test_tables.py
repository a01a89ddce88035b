"""Contents of tables, compared with arithmetic by hand or by the standard library, and the notes below them."""

import csv
import io
import statistics

import pytest

from fdbpl.errors import UserError
from fdbpl.report import write_report
from fdbpl.report.protocols import read_published
from fdbpl.report.report import read_results
from fdbpl.report.tables import make_sections
from fdbpl.runs.results import base2new_line


def h(base, new):
    return statistics.harmonic_mean([base, new])


def tables_of(tree):
    """{(protocol, title): {row: {column: cell}}}"""
    return {
        (section.protocol, table.title): {
            row.name: dict(zip(table.columns, row.cells, strict=True)) for row in table.rows
        }
        for section in make_sections(read_results(tree.output)) for table in section.tables
    }  # fmt: skip


def texts(row, *columns):
    return [row[column].text for column in columns]


def notes(tree) -> str:
    return "\n".join(note for section in make_sections(read_results(tree.output)) for note in section.notes)


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


def test_average_h_is_that_of_the_average_accuracies(tree):
    """As in published tables; the mean of the data sets' H would be 63.3 here."""
    for dataset, base, new in (("caltech101", 100.0, 50.0), ("dtd", 50.0, 75.0)):
        for seed in (1, 2):
            tree.pair(base, new, dataset=dataset, seed=seed)
    tree.pair(99.0, 99.0, dataset="dtd", trainer="MaPLe")
    found = tables_of(tree)["base2new", "Average over 2 data sets"]
    assert texts(found["CoOp"], "base", "new", "H") == ["75.00", "62.50", f"{h(75.0, 62.5):.2f}"]
    assert texts(found["MaPLe"], "base", "new", "H") == ["-", "-", "-"]  # a data set is missing


def test_joint_accuracies_of_an_evaluation(tree):
    keys = [tree.pair(80.0, 60.0, seed=seed) for seed in (1, 2)]
    tree.pair(80.0, 60.0, trainer="MaPLe")
    for seed, (base, new) in enumerate(((70.0, 40.0), (60.0, 50.0)), start=1):
        content = {"run": {"fingerprint": keys[seed - 1]}, "joint": {"base": base, "new": new}}
        place = f"base2new/train_base/demo/shots_16/CoOp/demo/seed{seed}/evaluation/joint/scores.json"
        tree.write(place, content)
    rows = tables_of(tree)["base2new", "demo"]
    assert texts(rows["CoOp"], "joint base", "joint new", "joint H") == [
        "65.00 ± 7.07",
        "45.00 ± 7.07",
        f"{h(65, 45):.2f}",
    ]
    assert texts(rows["MaPLe"], "joint base", "joint H") == ["-", "-"] and "Joint: images" in notes(tree)
    tree.write(place, content | {"run": {"fingerprint": "of another run"}})
    assert texts(tables_of(tree)["base2new", "demo"]["CoOp"], "joint base") == ["70.00"]


def test_best_and_second_best_are_marked(tree):
    for trainer, base in (("CoOp", 80.0), ("MaPLe", 80.001), ("VPT", 70.0), ("IVLP", 60.0)):
        tree.pair(base, 50.0, trainer=trainer)
    tree.pair(80.0, 60.0, dataset="dtd")
    found = tables_of(tree)
    marks = {name: row["base"].mark for name, row in found["base2new", "demo"].items()}
    assert marks == {"CoOp": "best", "MaPLe": "best", "VPT": "second", "IVLP": ""}
    assert {row["MiB"].mark for row in found["base2new", "demo"].values()} == {""}
    assert found["base2new", "dtd"]["CoOp"]["H"].mark == ""  # a single row


def test_order_of_rows_without_and_with_a_plan(tree):
    for trainer in ("FDBPL_MaPLe", "CoOp", "MaPLe", "FDBPL", "CoOp_KDPL", "ZeroshotCLIP"):
        tree.pair(80.0, 60.0, trainer=trainer)
    names = list(tables_of(tree)["base2new", "demo"])
    assert names == ["ZeroshotCLIP", "CoOp", "CoOp_KDPL", "FDBPL", "MaPLe", "FDBPL_MaPLe"]
    tree.plan(trainer="MaPLe", label="ours")
    tree.plan(trainer="CoOp", label="theirs")
    assert list(tables_of(tree)["base2new", "demo"])[:3] == ["ours", "theirs", "ZeroshotCLIP"]


def test_each_key_of_a_plan_is_averaged_over(tree):
    for split, base in ((1, 80.0), (2, 90.0)):
        tree.pair(base, base, config=f"demo+SPLIT={split}", tested={"images": split, "sha256": f"of split {split}"})
        tree.plan(config=f"demo+SPLIT={split}", each="SPLIT")
    assert texts(tables_of(tree)["base2new", "demo"]["CoOp"], "runs", "base") == ["2", "85.00 ± 7.07"]


def test_backbones_and_shots_have_separate_tables(tree):
    tree.pair(80.0, 60.0)
    tree.pair(70.0, 60.0, backbone="demo:rn-student", seed=2)
    tree.pair(60.0, 60.0, shots=4, seed=3)
    assert len({section.setting for section in make_sections(read_results(tree.output))}) == 3


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
    accuracies = {"demo_colours": 40.0, "food101": 60.0, "demo_sketch": 10.0, "demo_world": 30.0}
    for seed in (1, 2):
        key = tree.run("train_all", dataset="demo", classes="all", accuracy=99.0, seed=seed)
        for place in ("evaluation", "copy"):  # each target counts once
            for target, accuracy in accuracies.items():
                tree.run(f"{place}/{target}", dataset=target, source="demo", classes="all", accuracy=accuracy + seed,
                         seed=seed, tests=key)  # fmt: skip
    found = tables_of(tree)
    cross, shifted = found["cross_dataset", "From demo"]["CoOp"], found["domain_generalization", "From demo"]["CoOp"]
    assert list(cross) == ["runs", "demo (source)", "food101", "demo_colours", "average of 2 targets"]
    assert texts(cross, *cross) == ["2", "99.00 ± 0.00", "61.50 ± 0.71", "41.50 ± 0.71", "51.50"]
    assert texts(shifted, *shifted)[2:] == ["11.50 ± 0.71", "31.50 ± 0.71", "21.50"]


# published numbers ---------------------------------------------------------------------------------------------------


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


def test_published_names_say_what_a_method_needs(tree):
    for name in read_published("base2new", "ViT-B/16", 16)[0].datasets:
        tree.pair(80.0, 60.0, dataset=name, backbone="ViT-B/16")
    names = [
        name
        for name in tables_of(tree)["base2new", "Average over 11 data sets"]
        if name.startswith(("MMRL ", "PromptKD"))
    ]
    assert names == ["PromptKD (published; uses unlabelled images of the tested classes)",
                     "MMRL (published; knows the half of the tested class; tuned for each data set)"]  # fmt: skip
    assert "MMRL, " in notes(tree) and ": zhengli97/Awesome-Prompt-Adapter-Learning-for-VLMs, README" in notes(tree)


def test_published_few_shot_averages(tree):
    for name in read_published("few_shot", "ViT-B/16", 0)[0].datasets:
        for shots in (1, 16):
            tree.run("train_all", dataset=name, shots=shots, classes="all", backbone="ViT-B/16")
    found = tables_of(tree)
    row = found["few_shot", "Average over 11 data sets"]["CLIP-LoRA (published)"]
    assert texts(row, "1 shot", "16 shots") == ["72.20", "82.90"]
    assert "CLIP-LoRA (published)" not in found["few_shot", "dtd"]


def test_published_numbers_are_consistent():
    """Against typing errors; some H are inconsistent in the papers themselves."""
    off = [
        (row.trainer, name)
        for row in read_published("base2new", "ViT-B/16", 16)
        if "not that of the two averages" not in row.note
        for name, (base, new, score) in {**row.values, "average": row.average}.items()
        if None not in (base, new) and abs(h(base, new) - score) > 0.021
    ]
    assert off == [("PromptKD", "stanford_cars"), ("PromptKD", "ucf101")]
    transfer = [("cross_dataset", "ViT-B/16", None)]
    transfer += [("domain_generalization", *one) for one in (("ViT-B/16", 6), ("ViT-B/32", 12), ("RN50", 7))]
    for protocol, backbone, count in transfer:
        rows = read_published(protocol, backbone, 16, "imagenet")
        assert rows and count in (None, len(rows))
        for row in rows:
            means = [row.values[name][0] for name in row.datasets]
            assert statistics.mean(means) == pytest.approx(row.average[0], abs=0.011)


# notes ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("run", "words"),
    [
        ({"left_out": {"count": 12}}, "demo: 12 unreadable images left out (DATASET.SKIP_UNREADABLE)"),
        ({"left_out": {"count": 0}}, ""),
        (
            {"shots": 4, "protocol": {"classnames": ["cat", "dog"], "train_images": 4}},
            "demo: 4 training images instead of 4 shots per class",
        ),
        ({"shots": 4, "protocol": {"classnames": ["cat", "dog"], "train_images": 8}}, ""),
        ({"seed": 3, "collapsed": True}, "seed 3 collapsed, probably because of its learning rate (OPTIM.LR"),
    ],
)
def test_notes_on_runs(tree, run, words):
    tree.run("train_all", classes="all", **run)
    assert words in notes(tree) and ("demo: " in notes(tree)) == bool(words)


def test_note_on_different_test_images(tree):
    for seed, images in ((1, 500), (2, 100)):
        key = tree.run("train_all", classes="all", seed=seed)
        tree.run("evaluation/food101", dataset="food101", source="demo", classes="all", seed=seed, tests=key,
                 protocol={"test_images": images})  # fmt: skip
    assert "food101: runs were tested on different images of all classes (number of images: 100, 500)" in notes(tree)


def test_printed_result_of_a_collapsed_training(tree):
    tree.pair(80.0, 60.0, collapsed=True)
    base, new = (file.parent for file in sorted(tree.output.rglob("metrics.json"), reverse=True))
    assert base2new_line(base, new).endswith("(the training collapsed, see its log)")


# files ---------------------------------------------------------------------------------------------------------------


def test_csv_has_every_run_at_full_precision(tree):
    tree.pair(80 + 1 / 3, 60 + 1 / 7, config="demo+OPTIM.LR=1", left_out={"count": 3}, ece=1 / 3,
              protocol={"train_images": 4, "test_images": 9})  # fmt: skip
    tree.pair(50.0, None, seed=2)
    write_report(tree.output, gallery=False)
    rows = list(csv.DictReader(io.StringIO((tree.output / "report/table.csv").read_text())))
    assert len(rows) == 4
    by_place = {(row["task"], row["seed"]): row for row in rows}
    train, test = by_place["train", "1"], by_place["test", "1"]
    assert float(train["accuracy"]) == 80 + 1 / 3
    assert (train["overrides"], train["train_images"], train["test_images"], train["left_out"]) == (
        "OPTIM.LR=1", "4", "9", "3"
    )  # fmt: skip
    assert len(train["settings"]) == 12 and float(train["ece"]) == 1 / 3
    assert float(test["H"]) == pytest.approx(h(80 + 1 / 3, 60 + 1 / 7), abs=1e-12)
    assert by_place["test", "2"]["state"] == "unfinished: in its test" and by_place["test", "2"]["accuracy"] == ""


def test_one_protocol_is_returned_and_the_files_hold_all(tree):
    tree.pair(80.0, 60.0)
    tree.run("train_all", classes="all")
    text = write_report(tree.output, "few_shot", gallery=False)
    assert "## Few-shot" in text and "## Base-to-new" not in text
    markdown, latex = ((tree.output / "report" / name).read_text() for name in ("table.md", "table.tex"))
    assert "## Base-to-new" in markdown and "| CoOp | 1 | 80.00 | 60.00 | 68.57 | 68.57 | 512 |" in markdown
    assert r"CoOp & 1 & 80.00 & 60.00 & 68.57 & 68.57 & 512" in latex and r"80.00 $\pm$" not in latex


def test_folders_without_runs(tree):
    with pytest.raises(UserError, match="There is no folder .*output"):
        write_report(tree.output)
    tree.write("notes/readme.txt", "")
    with pytest.raises(UserError, match=r"no runs below .*run.json, or with a log.txt of Dassl.*only: notes"):
        write_report(tree.output)
