#!/bin/bash
# Trains on Slurm, and queues itself again when it is stopped before it is done.
#
#   sbatch --time=04:00:00 launch/slurm.sh --dataset=python_docs --workdir=runs/demo
#
# Submit from the repository with the environment active: the job runs there, with that PATH.
# The arguments are flags of the experiment. `scancel` ends it for good.
#SBATCH --job-name=rnnlab
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --time=04:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
# One task for each GPU. GPUs are given to the node, not to tasks (no --gpus-per-task): every task
# sees them all, and jax takes the one of its number on the node.
# TERM goes to the tasks 120 s before the time is up: enough for a step and a save.
set -euo pipefail

# A task that saves and leaves first must not end the others, so no bad exit kills: the tasks find
# out about a dead one by its silence.
code=0
srun --kill-on-bad-exit=0 python -m experiments.language_model \
  --distributed --heartbeat_seconds=30 "$@" || code=$?

if [ "$code" -eq 75 ]; then # stopped and saved: the same command goes on
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
