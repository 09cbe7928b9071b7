#!/usr/bin/env bash
# Install the real SGLang for CPU tests into a virtual environment of its own: install.sh VERSION VENV [PYTHON]
# Everything SGLang requires comes in the versions that it asks for, except torch and what only a GPU can use.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
version=${1:?SGLang version} venv=${2:?folder of the virtual environment} python=${3:-python3}

# 0.28 is the torchvision of torch 2.13; serve.py stands in for its compiled operators.
first=(torch==2.13.0 packaging)
without_their_requirements=("sglang==$version" torchvision==0.28.0 triton)

install() {
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-warn-conflicts "$@"
}

main() {
  local requirements="$venv/sglang-requirements.txt"
  "$python" -m venv "$venv"
  # torch first and alone: once it is there, nothing pulls a CUDA build of it.
  install "${first[@]}"
  install --no-deps "${without_their_requirements[@]}"
  "$venv/bin/python" "$here/requirements.py" >"$requirements"
  install --requirement "$requirements"
}

main
