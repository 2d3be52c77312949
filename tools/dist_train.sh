#!/usr/bin/env bash
# Train on several GPUs of one host or many, through torchrun.
#   tools/dist_train.sh CONFIG GPUS [flags of tools/train.py]
# Many hosts: run it on each with NNODES, NODE_RANK, MASTER_ADDR and PORT set.
set -euo pipefail

if [ $# -lt 2 ]; then
  sed -n '3s/^# */Usage: /p' "$0" >&2
  exit 2
fi
positional=("$1")
gpus=$2
shift 2
tools=$(cd "$(dirname "$0")" && pwd)

exec "${PYTHON:-python}" -m torch.distributed.run \
  --nnodes="${NNODES:-1}" \
  --node_rank="${NODE_RANK:-0}" \
  --master_addr="${MASTER_ADDR:-127.0.0.1}" \
  --master_port="${PORT:-29500}" \
  --nproc_per_node="$gpus" \
  "$tools/train.py" "${positional[@]}" --launcher pytorch "$@"
