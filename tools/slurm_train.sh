#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Train on the GPUs that Slurm gives: GPUS in all (8), GPUS_PER_NODE, CPUS_PER_TASK, SRUN_ARGS.
#   tools/slurm_train.sh PARTITION JOB_NAME CONFIG WORK_DIR [flags of tools/train.py]
# MAX_RESTARTS=3: where a process or a node dies, all are started again up to three
# times, and go on from the last checkpoint (as --resume, from the start too).
# A --resume PATH counts until the work dir has a checkpoint written after it.
set -euo pipefail

if [ $# -lt 4 ]; then
  sed -n '3s/^# */Usage: /p' "$0" >&2
  exit 2
fi
partition=$1
job_name=$2
positional=("$3" --work-dir "$4")
shift 4
gpus=${GPUS:-8}
gpus_per_node=${GPUS_PER_NODE:-$((gpus < 8 ? gpus : 8))}
# With a CDPATH of the user's, cd may print where it went.
tools=$(CDPATH='' cd "$(dirname "$0")" && pwd)

restarts=${MAX_RESTARTS:-0}
if [ "$restarts" -gt 0 ]; then
  positional+=(--resume)
fi
# As torchrun says it to tools/train.py.
export TORCHELASTIC_MAX_RESTARTS=$restarts

# SRUN_ARGS holds several arguments, so it is split into words.
# shellcheck disable=SC2086
train() {
  srun \
    --partition="$partition" \
    --job-name="$job_name" \
    --gres=gpu:"$gpus_per_node" \
    --ntasks="$gpus" \
    --ntasks-per-node="$gpus_per_node" \
    --cpus-per-task="${CPUS_PER_TASK:-5}" \
    --kill-on-bad-exit=1 \
    ${SRUN_ARGS:-} \
    "${PYTHON:-python}" -u "$tools/train.py" "${positional[@]}" --launcher slurm "$@"
}

# After Ctrl-C, whatever status srun ends with.
trap 'restarts=0' INT

status=0
train "$@" || status=$?
# Not what was interrupted (SIGINT) or cancelled (SIGTERM).
while [ "$status" -ne 0 ] && [ "$restarts" -gt 0 ] &&
  [ "$status" -ne 130 ] && [ "$status" -ne 143 ]; do
  echo "Training ended with status $status: $restarts restarts left" >&2
  restarts=$((restarts - 1))
  status=0
  train "$@" || status=$?
done
exit "$status"
