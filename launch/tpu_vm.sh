#!/bin/bash
# Trains on a Cloud TPU slice, from this machine.
#
#   export TPU=rnnlab ZONE=us-west4-a SHARE=10.0.0.2:/runs
#   launch/tpu_vm.sh create         # asks for a spot slice, waits, installs this commit
#   launch/tpu_vm.sh run --dataset=python_docs --workdir=/runs/demo
#   launch/tpu_vm.sh delete
#
# SHARE is an NFS export, such as one of Filestore, that every worker mounts at /runs. A slice that
# was taken away is deleted and created again; then the same run goes on.
set -euo pipefail
: "${TPU:?name of the slice}" "${ZONE:?such as us-west4-a}" "${SHARE:?HOST:/EXPORT}"
TYPE="${TYPE:-v5litepod-16}" RUNTIME="${RUNTIME:-v2-alpha-tpuv5-lite}"

queue() { gcloud compute tpus queued-resources "$1" "$TPU" --zone="$ZONE" "${@:2}"; }
everywhere() { gcloud compute tpus tpu-vm ssh "$TPU" --zone="$ZONE" --worker=all --command="$1"; }

create() {
  queue create --node-id="$TPU" --accelerator-type="$TYPE" --runtime-version="$RUNTIME" --spot
  until queue describe --format='value(state.state)' | tee /dev/stderr | grep -qx ACTIVE; do
    sleep 30
  done
  archive="$(mktemp -d)/rnnlab.tar.gz"
  git archive --output="$archive" HEAD
  gcloud compute tpus tpu-vm scp "$archive" "$TPU:" --zone="$ZONE" --worker=all
  everywhere "sudo apt-get install -qy nfs-common && sudo mkdir /runs && sudo mount $SHARE /runs \
    && mkdir rnnlab && tar xzf rnnlab.tar.gz -C rnnlab && cd rnnlab && pip install -q uv \
    && python3 -m uv venv --python 3.11 && python3 -m uv pip install -e '.[tpu,data]'"
}

run() { # jax finds the other workers by itself
  everywhere "cd rnnlab && RNNLAB_DATA=/runs/data .venv/bin/python -m experiments.language_model \
    --distributed --heartbeat_seconds=30 $(printf '%q ' "$@")"
}

case "${1:-}" in
  create | run) "$@" ;;
  delete) queue delete --force --quiet ;;
  *) echo "usage: launch/tpu_vm.sh create | run FLAGS ... | delete" >&2 && exit 2 ;;
esac
