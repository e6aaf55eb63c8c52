#!/bin/sh
# Checks and measures training on a GPU: sh benchmarks/on_gpu.sh [tests|bench|all] [OUT] [DATA]
#
# Takes at most nine minutes, and needs neither Ray nor a network. Writes OUT/results.json (default
# OUT: gpu-results). DATA (images:PATH or cifar10) names the images of the benchmark. For a part:
# --stages A,B and --seconds N. Without a GPU the script runs, too, and marks the checks that need
# one.
set -eu

benchmarks=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
project=$(dirname -- "$benchmarks")
python=$project/.venv/bin/python
"$python" -c '' 2>/dev/null || python=python3
PYTHONPATH=$project:$benchmarks${PYTHONPATH:+:$PYTHONPATH}
export PYTHONPATH PYTHONUNBUFFERED=1
exec "$python" -m gpu_checks "$@"
