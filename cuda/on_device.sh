#!/usr/bin/env bash
# All that needs a CUDA device, in four parts of less than ten minutes each, on a machine without a network:
#
#   cuda/on_device.sh build      the package, for this device alone; the card, limits of kernels, the first calls
#   cuda/on_device.sh tests      the tests of all backends there, then NVIDIA's sanitizers
#   cuda/on_device.sh times      ceilings, and a layer of every workload beside PyTorch's (bench/device.py)
#   cuda/on_device.sh profile    what each kernel of two layers takes: time, bytes, bank conflicts
#
# The machine has nvcc, a C++ compiler, and a Python with its headers, NumPy, pytest, pybind11, scikit-build-core,
# hatch-fancy-pypi-readme, CMake and ninja; PyTorch for `times`. Nothing is installed but the package, into $SITE.
# Results go to $OUT (default: cuda-report), at most eight files; DATA=folder/with/mnist for the workloads made from it.
# $ARCHITECTURES (default: the device's own) is what CMake is told.
set -euo pipefail
cd "$(dirname "$0")/.."
report=$(mkdir -p "${OUT:-cuda-report}" && cd "${OUT:-cuda-report}" && pwd)
site=${SITE:-$report/site}
python=${PYTHON:-python3}
export PYTHONUNBUFFERED=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INDEX=1 OPENBLAS_NUM_THREADS=1
export PYTHONPATH=$site REDUNET_REQUIRE_BACKENDS=cuda REDUNET_TEST_BACKENDS=cuda PYTEST_DISABLE_PLUGIN_AUTOLOAD=1
command -v nvcc >/dev/null || export PATH=$PATH:/usr/local/cuda/bin

build() {
  nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm,pcie.link.gen.current,pcie.link.width.current \
    --format=csv | tee "$report/device.txt"
  local native
  native=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -n 1 | tr -d .)
  "$python" -m pip install -v --no-build-isolation --no-deps --upgrade --target "$site" . \
    -C cmake.define.REDUNET_CUDA=ON -C "cmake.define.CMAKE_CUDA_ARCHITECTURES=${ARCHITECTURES:-$native-real}" \
    >"$report/build.txt" 2>&1 || { tail -n 40 "$report/build.txt" && return 1; }
  "$python" cuda/report.py "$report/build.txt" | tail -n 1
  cd "$report" && "$python" -m redunet info && "$python" -c "
import time
import redunet as rn
X, y = rn.datasets.gaussian_mixture(200, n_features=3, random_state=0)
for backend in ('cuda', 'cuda', 'cpu'):
    start = time.perf_counter()
    Z = rn.build(X, y, n_layers=20, backend=backend)[1]
    print(f'{backend}: {1e3 * (time.perf_counter() - start):.1f} ms')
"
}

# What is pinned elsewhere warns here: warnings are no errors. Every test must pass; what counts calls is skipped.
tests() {
  local tool
  "$python" -m pytest -q -rfE --maxfail=10 -W default -p no:cacheprovider tests/test_cuda.py \
    $(grep -l 'backend\b' tests/test_*.py | grep -v -e packaging -e torch -e test_cuda) 2>&1 | tee "$report/tests.txt"
  for tool in memcheck racecheck synccheck; do
    timeout 75 compute-sanitizer --tool "$tool" --kernel-name kns=redunet --error-exitcode 9 --target-processes all \
      "$python" -m pytest -q -W default -p no:cacheprovider tests/test_cuda.py -k "TestSmall and float32" \
      >"$report/$tool.txt" 2>&1 || echo "$tool failed"
    tail -n 2 "$report/$tool.txt"
  done
}

times() {
  PYTHONPATH=$site:$PWD "$python" -m bench.device ${DATA:+--data "$DATA"} --json "$report/times.json" "$@" |
    tee "$report/times.txt"
}

profile() {
  local metrics=gpu__time_duration.sum,dram__bytes.sum,sm__throughput.avg.pct_of_peak_sustained_elapsed
  metrics+=,dram__throughput.avg.pct_of_peak_sustained_elapsed,sm__warps_active.avg.pct_of_peak_sustained_active
  metrics+=,l1tex__data_bank_conflicts_pipe_lsu.sum
  local name
  for name in "${@:-wide1d}"; do
    PYTHONPATH=$site:$PWD timeout 100 ncu --clock-control none --csv --launch-skip 4 --launch-count 140 \
      --metrics "$metrics" "$python" -c "
import os, sys
import redunet as rn
from bench import workloads
q = workloads.load(sys.argv[1], data=os.environ.get('DATA'))
rn.build(q.X, q.y, n_layers=2, eta=q.eta, backend='cuda', keep='features', on_layer=lambda index, rates: False)
" "$name" >"$report/profile-$name.csv"
    "$python" cuda/kernel_times.py "$report/profile-$name.csv"
  done | tee "$report/profile.txt"
}

case ${1:-} in
  build | tests | times | profile) "$@" ;;
  *) sed -n '2,/^set/p' "$0" | sed '$d;s/^# \{0,1\}//' && exit 2 ;;
esac
