#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Train on several GPUs of one host or many, through torchrun.
#   tools/dist_train.sh CONFIG GPUS [flags of tools/train.py]
# Many hosts: run it on each with NNODES, NODE_RANK, MASTER_ADDR and PORT set.
# MAX_RESTARTS=3: where a process or a host dies, all are started again up to three
# times, and go on from the last checkpoint (as --resume, from the start too).
# A --resume PATH counts until the work dir has a checkpoint written after it.
# JOIN_TIMEOUT=3600: the seconds that hosts wait for each other (86400, a day).
set -euo pipefail

if [ $# -lt 2 ]; then
  sed -n '3s/^# */Usage: /p' "$0" >&2
  exit 2
fi
positional=("$1")
gpus=$2
shift 2
# With a CDPATH of the user's, cd may print where it went.
tools=$(CDPATH='' cd "$(dirname "$0")" && pwd)

restarts=${MAX_RESTARTS:-0}
if [ "$restarts" -gt 0 ]; then
  positional+=(--resume)
fi
# Hosts meet at that of rank 0, and meet again there when one comes back.
is_host=$([ "${NODE_RANK:-0}" = 0 ] && echo true || echo false)
# On one host, at any free port (0): two trainings do not get in each other's way.
port=${PORT:-$([ "${NNODES:-1}" = 1 ] && echo 0 || echo 29500)}
if $is_host && (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
  echo "Error: port $port of this host is in use, by another training perhaps: set PORT to another" >&2
  exit 1
fi

# torchrun alone gives up on a host 0 that does not listen within a minute.
join_timeout=${JOIN_TIMEOUT:-86400}
if ! $is_host && [ "${NNODES:-1}" != 1 ]; then
  address=${MASTER_ADDR:-127.0.0.1}
  until (: <"/dev/tcp/$address/$port") 2>/dev/null; do
    if [ "$SECONDS" -ge "$join_timeout" ]; then
      echo "Error: host 0 did not listen at $address, port $port, within $join_timeout s" >&2
      exit 1
    fi
    sleep 1
  done
fi

# Shared, the store of the first meeting is not announced to who joins a later one.
export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1

exec "${PYTHON:-python}" -m torch.distributed.run \
  --nnodes="${NNODES:-1}" \
  --nproc_per_node="$gpus" \
  --max_restarts="$restarts" \
  --rdzv_backend=c10d \
  --rdzv_endpoint="${MASTER_ADDR:-127.0.0.1}:$port" \
  --rdzv_id="${RUN_ID:-ape_mmdet}" \
  --rdzv_conf="is_host=$is_host,join_timeout=$join_timeout" \
  ${LOCAL_ADDR:+--local_addr="$LOCAL_ADDR"} \
  "$tools/train.py" "${positional[@]}" --launcher pytorch "$@"
