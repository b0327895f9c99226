#!/usr/bin/env bash
# Everything that a GPU has to say about this checkout, in order of importance:
#
#   scripts/bench_gpu.sh [STEP ...]        all steps, or those that are named
#
# Each step is one command of less than ten minutes and leaves bench/results/gpu-STEP.json and .md (gpu-test.log: the
# tests).  A step that fails does not stop the next.  PYTHON names the interpreter with torch and this package's
# dependencies; the package itself need not be installed.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
PYTHON=${PYTHON:-python3}
RESULTS=${RESULTS:-bench/results}
STEPS=(test 7b 7b-triton mixtral-triton 7b-int8 7b-int4 7b-fp8 7b-kv8 7b-fp8-products mixtral-int4 profile mixtral nemo small24b)

bench() {  # bench NAME FLAGS...
  local name=$1
  shift
  PYTHONPATH=src timeout 590 "$PYTHON" -c 'from mistral_local.cli.entry import bench; raise SystemExit(bench())' \
    gpu --output "$RESULTS/gpu-$name.json" "$@"
}

with_triton() {
  MISTRAL_LOCAL_TRITON=1 bench "$@"
}

without_triton() {
  MISTRAL_LOCAL_TRITON=0 bench "$@"
}

step() {
  case $1 in
    test) timeout 590 make test-gpu PYTHON="$PYTHON" 2>&1 | tee "$RESULTS/gpu-test.log" ;;
    7b) without_triton 7b --shapes 7b ;;
    7b-triton) with_triton 7b-triton --shapes 7b ;;
    mixtral) without_triton mixtral --shapes mixtral ;;
    mixtral-triton) with_triton mixtral-triton --shapes mixtral ;;
    7b-int8 | 7b-int4 | 7b-fp8) with_triton "$1" --shapes 7b --quantize "${1#7b-}" ;;
    7b-kv8) with_triton 7b-kv8 --shapes 7b --kv_dtype fp8 --cells decode ;;
    7b-fp8-products)
      MISTRAL_LOCAL_FP8_ACTIVATIONS=1 with_triton 7b-fp8-products --shapes 7b --quantize fp8 \
        --cells prefill,decode:32x1024,decode:64x1024
      ;;
    mixtral-int4) with_triton mixtral-int4 --shapes mixtral --quantize int4 ;;
    profile) with_triton profile --shapes 7b --cells decode:1x1024,decode:32x1024,decode:8x8192 --profile ;;
    nemo | small24b) with_triton "$1" --shapes "$1" ;;
    *)
      echo "bench_gpu.sh: expected some of ${STEPS[*]}, got $1" >&2
      return 2
      ;;
  esac
}

failed=()
for name in "${@:-${STEPS[@]}}"; do
  echo "== $name"
  step "$name" || failed+=("$name")
done
if ((${#failed[@]})); then
  echo "bench_gpu.sh: failed: ${failed[*]}" >&2
  exit 1
fi
