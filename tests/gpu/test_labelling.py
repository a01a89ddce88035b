"""Bank generation on a stand-in for CUDA: the host waits for the device once per file, not once per batch."""

from fdbpl.engine.bank_spec import ensure_bank
from fdbpl.engine.registry import region_bank_spec


def test_generation_waits_once_per_file(cfg_in, tmp_path, cuda):
    settings = {"USE_CUDA": True, "TEACHER.NAME": "random:tiny teacher", "MODEL.BACKBONE.NAME": "random:tiny"}
    plan = region_bank_spec(cfg_in(tmp_path, "FDBPL", "run", settings | {"REGIONS.BATCH_SIZE": 4}))
    ensure_bank(plan)
    module = "fdbpl/regions/bank_writer.py"
    waits = {place: count for (_, place), count in cuda.waits.items() if place.startswith(module)}
    assert cuda.problems == []
    files = len(list(tmp_path.glob("regions/**/*.safetensors")))
    assert 0 < sum(waits.values()) <= files, waits
