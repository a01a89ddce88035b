"""Interrupted and killed scripts, one test for each kind of fault; scripts/soak.sh repeats them at random moments."""

import random
from dataclasses import replace

import pytest
from PIL import Image

from tools.soak import comparing, mounts
from tools.soak.disturbing import Count, Watch, kill_until_finished
from tools.soak.faults import concurrent_preparations, kill_rank, more_epochs
from tools.soak.killing import Kill
from tools.soak.scenarios import CALTECH101, STEPS, Place, Scenario, mirror

# few-shot learning on a small image folder, without the images of the demo
SMALL = Scenario(
    "training", "own images", "few_shot.sh", ("folder", 1, "CoOp", "OPTIM.MAX_EPOCH", 40, *STEPS),
    {"SHOTS": "4", "CFG": "demo"},
)  # fmt: skip
CONTINUES = "the same command continues where this one stopped"


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    for name in ("red", "blue", "green"):
        (folder / name).mkdir()
        for number in range(10):
            Image.new("RGB", (40, 40 + number), name).save(folder / name / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def caltech101(tmp_path_factory):
    """A function that creates places with a mirror, and the place of an uninterrupted preparation."""
    server, stop = mirror(0.04)
    folder = tmp_path_factory.mktemp("caltech101")

    def place(name: str) -> Place:
        return Place(folder / name, folder / "data", f"{server.url}/mirror")

    undisturbed = place("undisturbed")
    CALTECH101.run_undisturbed(undisturbed)
    yield place, undisturbed
    stop()


@pytest.fixture(scope="module")
def undisturbed(images, tmp_path_factory):
    """The place of an uninterrupted training."""
    place = Place(tmp_path_factory.mktemp("undisturbed"), images)
    SMALL.run_undisturbed(place)
    return place


def test_an_interrupted_training_is_resumed(images, undisturbed, tmp_path):
    """SIGTERM to the script, then Ctrl-C: the training ends, prints how to resume, and resumes."""
    place = Place(tmp_path / "disturbed", images)
    for kill, word in ((Kill("SIGTERM", "script"), "terminated"), (Kill("SIGINT"), "interrupted")):
        watch, command = Watch(place.folder), SMALL.start(place)
        assert command.wait(more_epochs(place, 3))
        ended = command.end(kill)  # checks that no process is left
        assert ended.killed and ended.errors.count(f"{word}: {CONTINUES}") == 1, ended.errors
        assert command.process.returncode in {"terminated": (143, -15), "interrupted": (130, -2)}[word]
        watch.check()
    watch = Watch(place.folder)
    assert watch.before and max(map(max, watch.epochs.values())) >= 6
    SMALL.start(place).succeed()
    watch.check()
    comparing.same(undisturbed.output, place.output)
    comparing.require_no_temporary_files(place.folder)


def test_a_killed_process_of_two_and_a_terminated_torchrun(images, tmp_path):
    place = Place(tmp_path, images)
    both = replace(SMALL, settings={**SMALL.settings, "NPROC": "2"})
    command = both.start(place)
    assert command.wait(more_epochs(place, 3))
    kill_rank(command, 1)
    errors = command.fail(1, "error: ").errors
    assert "killed by signal 9" in errors or "Another process exited" in errors
    watch, command = Watch(place.folder), both.start(place)
    assert command.wait(more_epochs(place, 3))
    errors = command.end(Kill("SIGTERM", "script")).errors  # checks that no process is left
    assert errors.count(f"terminated: {CONTINUES}") == 1 and len(errors.splitlines()) <= 3, errors
    watch.check()


def test_a_preparation_killed_at_random_moments(caltech101):
    place, undisturbed = caltech101
    count, notes = Count(), []
    while count.rounds < 12 and sum(count.kills.values()) < 2:  # a preparation may end before the random moment
        chance, folder = random.Random(count.rounds), place(f"killed {count.rounds}")
        kill_until_finished(CALTECH101, folder, undisturbed, 1.0, chance, count, notes.append)
    assert sum(count.kills.values()) >= 2, notes


def test_two_preparations_at_once(caltech101):
    place, undisturbed = caltech101
    concurrent_preparations(CALTECH101, place("two"), undisturbed)


@pytest.mark.parametrize("fault", ["disk_full", "read_only"])
def test_a_full_or_read_only_disk(caltech101, fault):
    if not mounts.possible():
        pytest.skip("this system does not permit mounts")
    place, undisturbed = caltech101
    assert mounts.in_namespace(fault, CALTECH101, place(fault), undisturbed)
