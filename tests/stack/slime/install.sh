#!/usr/bin/env bash
# Install what slime needs on a CPU, SGLang included, into a virtual environment of its own: install.sh VENV [PYTHON]
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
venv=${1:?folder of the virtual environment} python=${2:-python3}
sglang=0.5.15.post1 # slime of August 2026 reads its ServerArgs
# pip complains that pandas wants a newer numpy than Megatron takes; nothing here needs pandas.

requirements=(
  megatron-core==0.16.1 'ray[default]==2.60.0' sglang-router numpy==1.26.4 pyarrow==20.0.0 blake3 'httpx[http2]'
  omegaconf pylatexenc pyyaml tensorboard wandb pytest pytest-asyncio
)

main() {
  bash "$here/../sglang/install.sh" "$sglang" "$venv" "$python"
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "${requirements[@]}"
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    --requirement "$here/../../../slime_patch/ta_opd/requirements.txt"
}

main
