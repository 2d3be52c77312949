#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Evaluate with the GPUs that Slurm gives: GPUS in all (8), GPUS_PER_NODE, CPUS_PER_TASK, SRUN_ARGS.
#   tools/slurm_test.sh PARTITION JOB_NAME CONFIG CHECKPOINT [flags of tools/test.py]
set -euo pipefail

if [ $# -lt 4 ]; then
  sed -n '3s/^# */Usage: /p' "$0" >&2
  exit 2
fi
partition=$1
job_name=$2
positional=("$3" "$4")
shift 4
gpus=${GPUS:-8}
gpus_per_node=${GPUS_PER_NODE:-$((gpus < 8 ? gpus : 8))}
# With a CDPATH of the user's, cd may print where it went.
tools=$(CDPATH='' cd "$(dirname "$0")" && pwd)

# SRUN_ARGS holds several arguments, so it is split into words.
# shellcheck disable=SC2086
exec srun \
  --partition="$partition" \
  --job-name="$job_name" \
  --gres=gpu:"$gpus_per_node" \
  --ntasks="$gpus" \
  --ntasks-per-node="$gpus_per_node" \
  --cpus-per-task="${CPUS_PER_TASK:-5}" \
  --kill-on-bad-exit=1 \
  ${SRUN_ARGS:-} \
  "${PYTHON:-python}" -u "$tools/test.py" "${positional[@]}" --launcher slurm "$@"
