#!/usr/bin/env bash
# Everything that wants a GPU, in one command; JSON goes to recipes/benchmarks/results/.
set -uo pipefail
cd "$(dirname "$0")/../.."
status=0
python -m pytest -q -m gpu tests || status=$?
python recipes/benchmarks/measure_strategies.py --device cuda || status=1
python recipes/benchmarks/plan_against_measured.py --device cuda || status=1
python recipes/benchmarks/compare_with_llama.py --device cuda --shapes 1b 13b || status=1
python recipes/benchmarks/compare_attention.py --device cuda --shape 1b || status=1
python recipes/preflight.py nano --launch "accelerate launch --config_file recipes/hardware/one_gpu.yaml" || status=1
exit "$status"
