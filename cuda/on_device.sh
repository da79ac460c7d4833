#!/usr/bin/env bash
# All that needs a CUDA device: tests, NVIDIA's sanitizers, benchmarks. Saves what they print in a folder.
#
#   cuda/on_device.sh [FOLDER]      default: cuda-report; DATA=folder/with/mnist for the workloads made from MNIST
#
# It makes a virtual environment in FOLDER/venv, with nvcc and the libraries from NVIDIA's packages.
set -euo pipefail
cd "$(dirname "$0")/.."
report=$(mkdir -p "${1:-cuda-report}" && cd "${1:-cuda-report}" && pwd)
venv=$report/venv
export REDUNET_REQUIRE_BACKENDS=cuda PIP_DISABLE_PIP_VERSION_CHECK=1

nvidia-smi | tee "$report/device.txt"
if [ ! -d "$venv" ]; then
  python3 -m venv "$venv"
  "$venv/bin/pip" install -q 'cuda-toolkit[nvcc,crt,nvvm,cccl,cudart,cublas,cufft]>=13,<14' 'nvidia-cuda-sanitizer-api<14' \
    'scikit-build-core>=0.11' 'hatch-fancy-pypi-readme>=23.2' 'pybind11>=3' 'cmake>=3.26' ninja
fi
PATH=$venv/bin:$PATH "$venv/bin/pip" install -v --no-build-isolation '.[test,bench,cuda]' \
  -C cmake.define.REDUNET_CUDA=ON >"$report/build.txt" 2>&1 || { tail -40 "$report/build.txt" && exit 1; }
"$venv/bin/python" cuda/report.py "$report/build.txt" | tee "$report/kernels.txt"
"$venv/bin/redunet" info | tee "$report/config.txt"

"$venv/bin/python" -m pytest -q tests 2>&1 | tee "$report/tests.txt"

sanitizer=$(find "$venv" -name compute-sanitizer -type f -perm -u+x | head -n 1)
sanitizer=${sanitizer:-compute-sanitizer}
for tool in memcheck racecheck synccheck initcheck; do
  "$sanitizer" --tool "$tool" --error-exitcode 1 --target-processes all \
    "$venv/bin/python" -m pytest -q tests/test_cuda.py -k TestSmall 2>&1 | tee "$report/$tool.txt"
done

"$venv/bin/python" -m bench.report --json "$report/layers.json" ${DATA:+--data "$DATA"} \
  --implementations "redunet cpu" "redunet cuda" | tee "$report/layers.txt"
echo "all done: $report"
