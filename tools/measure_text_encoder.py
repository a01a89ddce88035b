"""`python -m tools.measure_text_encoder`: memory and time of the text encoder's forward and backward pass by classes.

The model has random weights and the size of OpenAI's ViT-B/16 (ViT-B/32 has the same text encoder). Each row has
its own process. Class names have 1 to 8 tokens, as in ImageNet.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from argparse import ArgumentParser

import torch

from fdbpl.devices import choose_device
from fdbpl.errors import cli_error_handler

BATCH = 32  # image features per step
WORDS = ("cat", "dog", "bird", "tree", "house", "river", "stone", "glass")  # one token each
CONTEXTS = {4: "a photo of a", 16: ""}


def main() -> None:
    parser = ArgumentParser(prog="python -m tools.measure_text_encoder", description=__doc__)
    parser.add_argument("--classes", type=int, nargs="+", default=[50, 100, 500, 1000])
    parser.add_argument("--context", type=int, nargs="+", default=[4, 16], help="context vectors")
    parser.add_argument("--chunk", type=int, nargs="+", default=[0, 250], help="MODEL.TEXT_CHUNK; 0: no chunks")
    parser.add_argument("--csc", action="store_true", help="class-specific contexts")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="", help="cpu or cuda (default: cuda if available)")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    with cli_error_handler():
        if arguments.one:
            print(json.dumps(measure(*json.loads(arguments.one))))
            return
        device = choose_device(arguments.device)
        machine = f"{platform.processor() or platform.machine()}, {os.cpu_count()} processors, {device}"
        print(f"{machine}, torch {torch.__version__}")
        print("two prompt spaces, forward and backward pass; before: with the weights, before the first step")
        print("| classes | context | chunk | MiB before | MiB peak | s / step |")
        print("|---|---|---|---|---|---|")
        for classes in arguments.classes:
            for context in arguments.context:
                for chunk in arguments.chunk:
                    if chunk and chunk >= 2 * classes:
                        continue  # same as without chunks
                    one = json.dumps([classes, context, chunk, arguments.csc, arguments.rounds, device])
                    command = [sys.executable, "-m", "tools.measure_text_encoder", "--one", one]
                    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
                    before, peak, seconds = json.loads(output)
                    row = f"| {classes} | {context} | {chunk or 'all'} | {before:.0f} | {peak:.0f} | {seconds:.2f} |"
                    print(row, flush=True)


def measure(classes: int, context: int, chunk: int, csc: bool, rounds: int, device: str) -> tuple[float, float, float]:
    """Return the memory of the process or GPU before the steps, its peak (MiB), and the median seconds of a step."""
    from clip.model import CLIP

    from fdbpl.prompts import PromptLearner, encode_prompt_sets

    torch.manual_seed(0)
    model = CLIP(512, 224, 12, 768, 16, 77, 49408, 512, 8, 12).eval().requires_grad_(False).to(device)
    names = [" ".join(WORDS[(number + i) % 8] for i in range(1 + number % 8)) for number in range(classes)]
    spaces = [PromptLearner(model, names, context, CONTEXTS[context], csc).to(device) for _ in range(2)]
    images = torch.nn.functional.normalize(torch.randn(BATCH, 512, device=device), dim=-1)
    before, seconds = memory(device), []
    for _ in range(1 + rounds):  # the first step is a warm-up
        begin = time.perf_counter()
        features = encode_prompt_sets(model, *(space() for space in spaces), chunk=chunk)
        loss = sum((100 * images @ part.T / part.norm(dim=-1)).logsumexp(-1).sum() for part in features)
        loss.backward()
        if device != "cpu":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - begin)
    return before, memory(device), statistics.median(seconds[1:])


def memory(device: str) -> float:
    """Return the peak memory so far in MiB."""
    if device == "cpu":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # Linux reports KiB
    return torch.cuda.max_memory_allocated() / 2**20


if __name__ == "__main__":
    main()
