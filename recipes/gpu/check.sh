#!/usr/bin/env bash
# What one CUDA card does with this repository, in about ten minutes and with nothing to download:
#
#   pip install '.[all]' pytest && recipes/gpu/check.sh gpu-check
#
# runs the tests marked gpu, measures nano, base and so400m (encoding, decoding, training steps, video; beside plain
# PyTorch and torch.compile), compares tokens with those of the CPU, and writes all of it to gpu-check/report.json.
# A part that fails is named at the end, and the others are measured all the same.
set -uo pipefail
cd "$(dirname "$0")/../.."
out=${1:-gpu-check}
mkdir -p "$out"
failed=()
part() {
    local name=$1; shift
    echo "== $name"
    timeout "${LIMIT:-180}" "$@" 2>&1 | tee "$out/$name.txt" || failed+=("$name")
}
part tests python -m pytest -q -m gpu --junit-xml "$out/tests.xml"
part equal python recipes/gpu/equal.py --out "$out/equal.json"
part bench python -m atoken.cli bench --device cuda --preset nano --preset base --preset so400m --preset video --json "$out/bench.json"
part training python -m atoken.cli bench --device cuda --preset training --json "$out/training.json"
part against python -m atoken.cli bench --device cuda --against --preset nano --preset so400m --json "$out/against.json"
python recipes/gpu/equal.py --join "$out"
[ ${#failed[@]} = 0 ] || { echo "failed: ${failed[*]}"; exit 1; }
