"""Check of one CUDA GPU in less than ten minutes: correctness, rates and memory, with random weights and no network.

`machine` has the stages that need no model, `decoding` those that compare and time image pipelines, `models` those that
run CLIPs; `setup` holds their sizes and helpers. `run` runs the stages and stores their results, `page` formats them.
"""
