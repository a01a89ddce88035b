"""Generate, inspect and verify region banks without a trainer.

    python -m fdbpl.regions generate --root data --images data/pets/images --bank banks/pets --teacher ViT-L/14 \
        --classnames names.txt --template "a photo of a {}."
    python -m fdbpl.regions inspect output/regions/demo/*
    python -m fdbpl.regions verify output/regions/demo/* --root output/synthetic
"""

import argparse
import os
import sys
from argparse import ArgumentParser
from pathlib import Path

from fdbpl import class_names
from fdbpl.errors import SystemFailure, UserError, cli_error_handler, one_line, quoted
from fdbpl.templates import fill_template

DEVICE = "cpu or cuda (default: cuda if available)"


def main() -> None:
    parser = ArgumentParser(
        prog="python -m fdbpl.regions", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    make = commands.add_parser("generate", help="label random regions of images with a teacher")
    make.add_argument("--root", type=Path, required=True, help="folder that image paths are relative to")
    make.add_argument("--images", type=Path, required=True, help="folder of images, or JSON list of paths below --root")
    make.add_argument("--bank", type=Path, required=True, help="folder of the bank")
    make.add_argument(
        "--teacher", required=True, help="e.g. ViT-L/14, open_clip:ViT-H-14-quickgelu/dfn5b, demo:teacher"
    )
    make.add_argument("--student", help="CLIP whose image features of the regions are stored too")
    make.add_argument("--classnames", type=Path, help="text file with one class name per line")
    make.add_argument("--template", default="a photo of a {}.", help="prompt with {} for the class name")
    make.add_argument("--per-image", type=int, default=50, help="regions of each image")
    make.add_argument("--scale", type=float, nargs=2, default=(0.08, 0.936), metavar=("LOW", "HIGH"),
                      help="range of a region's area as a fraction of the image")  # fmt: skip
    make.add_argument("--content", default="embedding", help="embedding, or topk:K")
    make.add_argument("--seed", type=int, default=1, help="seed of the sampled regions")
    make.add_argument("--precision", default="auto",
                      help="of the teacher: fp32, fp16 (GPU only), bf16, or auto (default): as in the existing bank, "
                      "else bf16 on a CPU with AMX or AVX512-BF16, else fp32")  # fmt: skip
    make.add_argument("--batch-size", type=int, default=256, help="regions in a forward pass")
    make.add_argument("--pipeline", default="auto", help="auto, dali or torchvision")
    make.add_argument("--dali-device", default="cpu", help="device on which DALI decodes: cpu, or gpu (not measured)")
    make.add_argument("--workers", type=int, default=0, help="decoding threads (default: one per processor, at most 8)")
    make.add_argument("--exif-orientation", action="store_true", help="display images according to their EXIF metadata")
    make.add_argument("--white-background", action="store_true", help="compose transparent pixels over white")
    make.add_argument("--device", default="", help=DEVICE)
    make.add_argument("--skip-unreadable", action="store_true", help="leave out images that cannot be decoded")
    for name, text in (("inspect", "show metadata, content and entropies of banks"),
                       ("verify", "compare banks with their checksums, and a sample with the teacher")):  # fmt: skip
        command = commands.add_parser(name, help=text)
        command.add_argument("bank", type=Path, nargs="+")
    command.add_argument("--root", type=Path, required=True, help="data root that the bank was generated from")
    command.add_argument("--images", type=Path, help="folder or JSON list of images that the bank must hold regions of")
    command.add_argument("--sample", type=int, default=64, help="regions that are compared with the teacher")
    command.add_argument("--tolerance", type=float, default=5e-3, help="largest deviation of an embedding's component")
    command.add_argument("--batch-size", type=int, default=64, help="regions in a forward pass")
    command.add_argument("--device", default="", help=DEVICE)
    arguments = parser.parse_args()
    with cli_error_handler():
        if arguments.command == "generate":
            generate_bank(arguments)
        elif arguments.command == "inspect":
            from fdbpl.regions.inspection import inspect

            for bank in arguments.bank:
                inspect(bank)
        else:
            sys.exit(verify(arguments))


def generate_bank(arguments: argparse.Namespace) -> None:
    """Generate the bank that the command line describes; the processes of a torchrun share the work."""
    from fdbpl import distributed
    from fdbpl.backbones import choose_precision, load_backbone, resolve_precision
    from fdbpl.devices import choose_device
    from fdbpl.io.image_reading import Decoding
    from fdbpl.regions.generation import generate
    from fdbpl.regions.metadata import DEFAULTS, BankMetadata, digest, interpolation_of, read_identity

    if "{}" not in arguments.template:
        raise UserError(
            f"--template {quoted(arguments.template)} has no {{}} for the class name. Write e.g. 'a photo of a {{}}.'"
        )
    for flag, value, least in (
        ("--per-image", arguments.per_image, 1),
        ("--batch-size", arguments.batch_size, 1),
        ("--workers", arguments.workers, 0),
    ):
        if value < least:
            raise UserError(f"{flag} {value} is too small. It has to be at least {least}.")
    low, high = arguments.scale
    if not 0 < low <= high <= 1:
        raise UserError(f"--scale {low} {high} is not a range above 0 and up to 1. Write e.g. --scale 0.08 0.936")
    if not arguments.root.is_dir():
        raise UserError(f"The folder --root {arguments.root} does not exist. Give the folder above the images.")
    names = class_names.read_lines(arguments.classnames) if arguments.classnames else []
    if arguments.classnames and not names:
        raise UserError(f"{arguments.classnames} holds no class names. Write one per line.")
    class_names.check_distinct(names, str(arguments.classnames), "leave one out")
    # a trained run adds its own prompts to the class names
    template = "{}" if arguments.teacher.startswith("run:") else arguments.template
    prompts = fill_template(template, names)
    device = choose_device(arguments.device)
    images = readable(list_images(arguments.images, arguments.root), arguments)
    if arguments.content != "embedding" and not prompts:
        raise UserError(f"--content {arguments.content} refers to classes. Give their names with --classnames.")
    stored = []
    if (arguments.bank / "manifest.json").is_file():
        stored = [{**DEFAULTS, **read_identity(arguments.bank)}["precision"]]
    precision = choose_precision(arguments.precision, device, stored, "--precision", arguments.teacher)
    resolve_precision(precision, device, "--precision")
    distributed.start(device == "cuda")
    model = load_backbone(arguments.teacher, device, precision)
    identity = BankMetadata(
        dataset=arguments.root.resolve().name,
        teacher=model.name,
        teacher_sha256=model.sha256,
        logit_scale=model.logit_scale,
        size=model.image_size,
        mean=tuple(model.mean),
        std=tuple(model.std),
        scale=tuple(arguments.scale),
        ratio=(3 / 4, 4 / 3),
        flip=0.5,
        seed=arguments.seed,
        content=arguments.content,
        classes="" if arguments.content == "embedding" else digest(prompts),
        precision=precision,
        interpolation=interpolation_of(Decoding(arguments.exif_orientation, arguments.white_background)),
    )
    student = (lambda: load_backbone(arguments.student, device)) if arguments.student else None
    print(
        generate(
            arguments.root,
            images,
            arguments.bank,
            identity,
            lambda: model,
            arguments.per_image,
            student,
            prompts,
            arguments.pipeline,
            device,
            arguments.batch_size,
            arguments.workers,
            arguments.dali_device,
        )  # fmt: skip
    )
    distributed.stop()


def list_images(source: Path, root: Path) -> list[str]:
    """List the images of a folder or of a JSON file: posix paths relative to `root`."""
    from fdbpl.io.atomic import read_json
    from fdbpl.io.image_files import find_images

    if source.is_dir():
        files, skipped = find_images([str(source)])
        if skipped:
            print(f"Skipped: {skipped}")
        images = [path_below(root, file) for file in files]
    else:
        images = read_json(source, "a JSON list of image paths")
        if not isinstance(images, list) or not all(isinstance(image, str) for image in images):
            raise UserError(f'{source} does not hold a JSON list of image paths. Write e.g. ["pets/1.jpg"].')
        if not images:
            raise UserError(f"{source} lists no images. Add their paths.")
    for image in images:
        if os.path.isabs(image) or ".." in image.split("/"):
            raise UserError(f"The image {image} does not lie below --root {root}. Give a folder above both as --root.")
        try:
            image.encode()  # the bank's files are in UTF-8
        except UnicodeEncodeError:
            raise UserError(f"The file name {image!a} below {root} is not UTF-8. Rename the file.") from None
    return images


def path_below(root: Path, file: str) -> str:
    """Return the path of a file relative to `root`; links are resolved only if it would leave `root` otherwise."""
    named = os.path.relpath(file, root)
    return os.path.relpath(os.path.realpath(file), os.path.realpath(root)) if named.startswith("..") else named


def readable(images: list[str], arguments: argparse.Namespace) -> list[str]:
    """Check that all images can be decoded; with --skip-unreadable return those that can."""
    from fdbpl.io.image_check import check_readable, list_unreadable, unreadable_images

    listing = Path(f"{arguments.bank}-unreadable.txt")
    if not arguments.skip_unreadable:
        check_readable(arguments.root, images, listing=listing, otherwise="give --skip-unreadable to leave them out")
        return images
    bad = unreadable_images(arguments.root, images)
    if bad:
        print(f"Skipped {len(bad)} of {len(images)} images: {list_unreadable(bad, listing)}")
    if len(bad) == len(set(images)):
        raise UserError(f"None of the {len(bad)} images in {arguments.images} can be decoded. Replace them.")
    return [image for image in images if image not in bad]


def verify(arguments: argparse.Namespace) -> int:
    """Print the findings of every bank and return the exit code: 0 = valid, 1 = invalid, 2 = not verified."""
    from fdbpl.devices import choose_device
    from fdbpl.findings import print_findings
    from fdbpl.regions.verify import Sample, verify_bank

    for flag, value in (("--sample", arguments.sample), ("--batch-size", arguments.batch_size)):
        if value < 1:
            raise UserError(f"{flag} {value} is too small. It has to be at least 1.")
    device = choose_device(arguments.device)
    sample = Sample(arguments.root, arguments.sample, arguments.tolerance, device, arguments.batch_size)
    images = list_images(arguments.images, arguments.root) if arguments.images else None
    codes = []
    for bank in arguments.bank:
        try:
            codes.append(print_findings(verify_bank(bank, sample, images)))
        except (UserError, SystemFailure) as error:  # continue with the other banks
            print(f"error: {one_line(str(error))}", file=sys.stderr)
            codes.append(error.exit_code)
    return max(codes)


if __name__ == "__main__":
    main()
