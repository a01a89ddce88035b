"""Runs of train.py: configuration, region generation, and training or testing in a run folder."""

import argparse
import difflib
import os
import secrets
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from io import StringIO
from pathlib import Path

from dassl.data.datasets import DATASET_REGISTRY, build_dataset
from dassl.engine import TRAINER_REGISTRY, build_trainer
from dassl.utils import collect_env_info, set_random_seed, setup_logger
from yacs.config import CfgNode

from fdbpl import distributed
from fdbpl.backbones import weights_sha256
from fdbpl.config import for_dataset, merge, pairs, plain, read_yaml, split_per_dataset
from fdbpl.data.registry import defaults_of_dataset
from fdbpl.determinism import deterministic_algorithms
from fdbpl.distributed import barrier, is_main_process, main_process_first, world_size
from fdbpl.errors import SystemFailure, UserError, quoted
from fdbpl.freed_memory import keep_freed_memory
from fdbpl.io.atomic import read_record
from fdbpl.io.image_check import check_readable
from fdbpl.runs import RunFolder, peak_memory

from . import DASSL
from .bank_spec import ensure_bank
from .method import Method
from .registry import default_config, region_bank_spec, trainer_names
from .run_inputs import inputs_of, test_record, tested_split


def run(arguments: argparse.Namespace) -> None:
    """Execute the command line of train.py: list the trainers, generate a region bank, train or test.

    Raises:
        UserError: a setting, file or folder that cannot be used.
    """
    keep_freed_memory()
    if arguments.list_trainers:
        print("\n".join(trainer_names()))
        return
    cfg = build_config(arguments)
    with deterministic_algorithms(arguments.deterministic):
        distributed.start(cfg.USE_CUDA)
        if cfg.SEED < 0:
            cfg.defrost()
            cfg.SEED = distributed.broadcast_from_main(choose_seed(cfg, arguments))
            cfg.freeze()
        trainer = TRAINER_REGISTRY.get(cfg.TRAINER.NAME)
        if issubclass(trainer, Method):  # not one of another project
            cfg = trainer.resolve_precisions(cfg)
        if arguments.generate_regions:
            print(DASSL)
            generate_regions(cfg)
        else:
            run_in_folder(cfg, arguments)
        distributed.stop()


def run_in_folder(cfg: CfgNode, arguments: argparse.Namespace) -> None:
    """Train or test in the run folder, which is locked meanwhile."""
    folder = RunFolder(cfg.OUTPUT_DIR, plain(cfg), task_of(arguments))
    unfinished = is_main_process() and folder.finished_metrics() is None
    log = redirect_stdout(sys.stdout)  # takes the run's log from standard output at the end
    with log, folder.held() if unfinished else nullcontext():
        _run(folder, cfg, arguments)


def _run(folder: RunFolder, cfg: CfgNode, arguments: argparse.Namespace) -> None:
    """Run from the log's header to the done marker; only the main process writes."""
    barrier()  # the first process holds the folder now
    metrics = folder.finished_metrics()
    barrier()
    if metrics is not None:
        compare_inputs(folder, cfg, arguments)
        otherwise = arguments.deterministic and not metrics.get("deterministic", False)
        how = "without --deterministic; " * otherwise + "delete it to run again"
        print(f"{cfg.OUTPUT_DIR} is finished: accuracy {metrics['accuracy']:.2f} ({how})")
        if cfg.TEST.SAVE_PREDICTIONS and not (folder.path / "predictions.csv").exists():
            print(
                f"It has no predictions.csv; test it for one: --eval-only --model-dir {cfg.OUTPUT_DIR}, another "
                "--output-dir, TEST.SAVE_PREDICTIONS True"
            )
        return
    fresh = not (folder.path / "run.json").exists()
    if is_main_process():
        folder.start(cfg.dump())
        setup_logger(cfg.OUTPUT_DIR)
    print(DASSL)
    if cfg.SEED >= 0:
        print(f"Setting fixed seed: {cfg.SEED}")
        set_random_seed(cfg.SEED)
    print(f"***************\n** Arguments **\n***************\n{show(arguments)}")
    print(f"************\n** Config **\n************\n{cfg}")
    print(f"Collecting env info ...\n** System info **\n{collect_env_info()}\nProcesses: {world_size()}")
    print(f"Deterministic algorithms only: {'yes' if arguments.deterministic else 'no'}\n")

    try:
        metrics = train_or_test(cfg, arguments, folder)
    except UserError as error:
        if fresh and is_main_process() and not isinstance(error, SystemFailure):
            folder.remove_unless_trained()
        raise
    if metrics is not None and is_main_process():
        folder.finish(metrics)


def build_config(arguments: argparse.Namespace) -> CfgNode:
    """Merge Dassl's defaults, those of the data set's class, the data set's YAML, the method's YAML, the flags and the
    trailing KEY VALUE pairs.

    The resulting data set and shots select the part of a PER_DATASET section that is merged as well.
    """
    cfg = default_config()
    cfg.set_new_allowed(False)
    special: dict[str, dict] = {}
    files = []
    for file in (arguments.dataset_config_file, arguments.config_file):
        if file:
            general, special = split_per_dataset(read_yaml(file), file)
            files.append((general, file))
    typed = ((flag_values(arguments), "the flags"), (pairs(arguments.opts), "the command line"))
    for values, source in (*files, *typed):
        merge(cfg, values, source)
    if defaults := defaults_of_dataset(cfg.DATASET.NAME):
        for values, source in ((defaults, cfg.DATASET.NAME), *files, *typed):
            merge(cfg, values, source)
    here = for_dataset(special, cfg.DATASET.NAME, cfg.DATASET.NUM_SHOTS)
    if here:
        merge(cfg, here, f"PER_DATASET of {arguments.config_file}")
        for values, source in typed:  # the command line takes precedence
            merge(cfg, values, source)
    for kind, name, registry in (
        ("--trainer", cfg.TRAINER.NAME, TRAINER_REGISTRY),
        ("DATASET.NAME", cfg.DATASET.NAME, DATASET_REGISTRY),
    ):
        if name not in registry.registered_names():
            close = difflib.get_close_matches(name, registry.registered_names(), n=3, cutoff=0) or ["none"]
            raise UserError(f"{quoted(name)} is not a registered name for {kind}; similar names are {', '.join(close)}")
    given = {"--eval-only": arguments.eval_only, "--no-train": arguments.no_train}
    others = [flag for flag in given if given[flag]]
    if arguments.generate_regions and others:
        raise UserError(f"--generate-regions cannot be combined with {' and '.join(others)}; give one of them")
    if arguments.load_epoch is not None and not arguments.eval_only:
        raise UserError(
            "--load-epoch chooses the weights of a test and needs --eval-only; to go on from a run, give --resume RUN"
        )
    if cfg.TEST.NO_TEST:
        raise UserError(
            "TEST.NO_TEST True would leave a run without a result, which no table can show; leave it False (a test "
            "that reads fewer images: TEST.SPLIT val)"
        )
    if not -1 <= cfg.SEED < 2**32:
        raise UserError(f"--seed is {cfg.SEED}, but it must be from 0 to {2**32 - 1}, or -1 for a random seed")
    if not cfg.OUTPUT_DIR:
        raise UserError("The run folder is missing; give one, for example --output-dir output/my_run")
    cfg.freeze()
    return cfg


def flag_values(arguments: argparse.Namespace) -> dict:
    """Return the configuration keys and values of the given flags of CoOp."""
    keys = {
        "DATASET.ROOT": arguments.root,
        "OUTPUT_DIR": arguments.output_dir,
        "RESUME": arguments.resume,
        "TRAINER.NAME": arguments.trainer,
        "MODEL.BACKBONE.NAME": arguments.backbone,
        "MODEL.HEAD.NAME": arguments.head,
        "INPUT.TRANSFORMS": arguments.transforms,
        "DATASET.SOURCE_DOMAINS": arguments.source_domains,
        "DATASET.TARGET_DOMAINS": arguments.target_domains,
    }
    return {key: value for key, value in keys.items() if value} | {"SEED": arguments.seed}


def train_or_test(cfg: CfgNode, arguments: argparse.Namespace, folder: RunFolder) -> dict | None:
    """Train or test, and return the metrics, or None with --no-train."""
    trainer = build_trainer(cfg)
    dataset = trainer.dm.dataset
    print_protocol(dataset, cfg)
    if is_main_process():
        folder.record_inputs(inputs_of(cfg, dataset, trainer.student.backbone.sha256, not arguments.eval_only))
    if arguments.no_train and not arguments.eval_only:
        return None
    with broken_images_named(dataset):
        if arguments.eval_only:
            trainer.load_model(arguments.model_dir, epoch=arguments.load_epoch)
            trainer.test()
        else:
            trainer.train()
    return {
        "trainer": cfg.TRAINER.NAME,
        "dataset": dataset.name or Path(arguments.dataset_config_file).stem or cfg.DATASET.NAME,
        "seed": cfg.SEED,
        "parameters": trainer.trainable_parameters,
        "steps": trainer.steps,
        "skipped_steps": trainer.skipped_steps,
        **({} if arguments.eval_only else {"collapsed": trainer.collapsed}),
        "processes": world_size(),
        "deterministic": arguments.deterministic,
        **trainer.results,
        "protocol": dataset.protocol,
        "tested": test_record(cfg, dataset),
        **left_out(dataset),
        "seconds": trainer.seconds,
        "peak_memory_mib": peak_memory(),
    }


def compare_inputs(folder: RunFolder, cfg: CfgNode, arguments: argparse.Namespace) -> None:
    """Compare the data and the weights of a finished run with the present ones.

    Raises:
        UserError: they have changed.
    """
    try:
        with redirect_stdout(StringIO()):
            dataset = build_dataset(cfg)
        student = weights_sha256(cfg.MODEL.BACKBONE.NAME)
    except (UserError, SystemFailure) as error:  # there is nothing to compare with
        print(f"The data and the weights of {folder.path} are not compared: {error}")
        return
    folder.check_inputs(inputs_of(cfg, dataset, student, not arguments.eval_only))


def choose_seed(cfg: CfgNode, arguments: argparse.Namespace) -> int:
    """Choose the seed of a run without --seed; -1 if nothing is trained.

    It is the seed of the run in the same folder, or of the run that is tested or resumed; otherwise a random one, which
    is recorded, so that the run can be repeated.
    """
    for place in [arguments.model_dir] if arguments.eval_only else [cfg.OUTPUT_DIR, cfg.RESUME]:
        record = Path(place, "run.json")
        if place and record.is_file():
            seed = read_record(record, "the record of a run", config=dict)["config"].get("SEED")
            return seed if isinstance(seed, int) else -1
    return -1 if arguments.eval_only or arguments.generate_regions else secrets.randbits(31)


def left_out(dataset) -> dict:
    """Return the images that DATASET.SKIP_UNREADABLE skips, with reasons; {} if it is False."""
    images = getattr(dataset, "left_out", None)
    return {} if images is None else {"left_out": {"count": len(images), "images": images}}


@contextmanager
def broken_images_named(dataset) -> Iterator[None]:
    """Check all images if one breaks in this block, and raise a UserError that names the broken ones."""
    try:
        yield
    except OSError as error:
        if error.errno is None:  # Pillow's
            items = [item for part in (dataset.train_x, dataset.val, dataset.test) for item in part or ()]
            check_readable(Path(dataset.root), {os.path.relpath(item.impath, dataset.root) for item in items})
        raise


def generate_regions(cfg: CfgNode) -> None:
    """Generate the region bank of a training; nothing that exists is generated again.

    Raises:
        UserError: there is no seed, so the few-shot images are not determined.
    """
    if cfg.SEED < 0 and cfg.DATASET.NUM_SHOTS > 0:
        raise UserError(
            "--generate-regions embeds regions of the images that the seed draws, and no seed is given; give --seed"
        )

    with main_process_first():  # few-shot lists and the demo's images are written once
        plan = region_bank_spec(cfg)
    if plan is None:
        print(f"{cfg.TRAINER.NAME} reads no region bank: nothing to generate")
    else:
        print(ensure_bank(plan))


def task_of(arguments: argparse.Namespace) -> str:
    """Return the task of the run, a part of its identity: training, or testing the weights of a certain run.

    Raises:
        UserError: the run to test is not finished, and no epoch of it is given.
    """
    if not arguments.eval_only:
        return "train"
    if not arguments.model_dir:
        return "test"
    folder = Path(arguments.model_dir)
    record = folder / "run.json"
    if not record.is_file():
        return f"test {folder.resolve()} epoch {arguments.load_epoch}"
    if arguments.load_epoch is None and not (folder / "done.json").is_file():
        raise UserError(
            f"The training in {folder} is not finished, so its last weights will change. Finish it by repeating its "
            "command, or test a certain epoch with --load-epoch N"
        )
    tested = read_record(record, "the record of a run", "give another --model-dir", fingerprint=str)
    return f"test {tested['fingerprint']} epoch {arguments.load_epoch}"


def print_protocol(dataset, cfg: CfgNode) -> None:
    """Print a line about the classes, the training images and the tested images."""
    protocol, split = dataset.protocol, tested_split(cfg, dataset)
    names, more = protocol["classnames"][:3], " ..." if len(protocol["classnames"]) > 3 else ""
    print(
        f"Protocol: {cfg.DATASET.NAME}, {protocol['subsample']} classes ({len(protocol['classnames'])}: "
        f"{', '.join(names)}{more}), {shots_of(dataset)}, seed {protocol['seed']}, "
        f"{protocol['train_images']} training images, {len(getattr(dataset, split))} "
        f"{'validation' if split == 'val' else 'test'} images"
    )


def shots_of(dataset) -> str:
    """Describe the number of training images per class."""
    shots = dataset.protocol["shots"]
    if shots < 1:
        return "all images"
    counts = Counter(item.label for item in dataset.train_x) if dataset.protocol["train_images"] else {}
    short = [count for count in counts.values() if count < shots]
    fewer = f" (fewer images of {len(short)} classes: {min(short)} to {max(short)})" if short else ""
    return f"{shots} shots{fewer}"


def show(arguments: argparse.Namespace) -> str:
    """Format the arguments, one per line."""
    return "\n".join(f"{key}: {value}" for key, value in sorted(vars(arguments).items()))
