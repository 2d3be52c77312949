#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Evaluate with several GPUs of one host or many, through torchrun.
#   tools/dist_test.sh CONFIG CHECKPOINT GPUS [flags of tools/test.py]
# Many hosts: run it on each with NNODES, NODE_RANK, MASTER_ADDR and PORT set.
set -euo pipefail

if [ $# -lt 3 ]; then
  sed -n '3s/^# */Usage: /p' "$0" >&2
  exit 2
fi
positional=("$1" "$2")
gpus=$3
shift 3
# With a CDPATH of the user's, cd may print where it went.
tools=$(CDPATH='' cd "$(dirname "$0")" && pwd)

exec "${PYTHON:-python}" -m torch.distributed.run \
  --nnodes="${NNODES:-1}" \
  --node_rank="${NODE_RANK:-0}" \
  --master_addr="${MASTER_ADDR:-127.0.0.1}" \
  ${PORT:+--master_port="$PORT"} \
  --nproc_per_node="$gpus" \
  "$tools/test.py" "${positional[@]}" --launcher pytorch "$@"
