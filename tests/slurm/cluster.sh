#!/usr/bin/env bash
# A SLURM cluster of one node, this machine, for tests: `tests/slurm/cluster.sh up` prints what to export, `down` ends it and removes its folder.
# It needs root and Debian's packages slurm-wlm and munge; its daemons listen on the loopback address alone.
set -euo pipefail
folder=${GROKINTERP_SLURM:-/tmp/grokinterp-slurm}
export SLURM_CONF=$folder/slurm.conf

up() {
  [ ! -e "$folder" ] || { echo "$folder is there already; take it down first" >&2; exit 1; }
  for program in slurmctld slurmd munged; do
    command -v "$program" > /dev/null || { echo "$program is missing; apt-get install slurm-wlm munge" >&2; exit 1; }
  done
  mkdir -p "$folder"/{state,spool,munge}
  chmod 755 "$folder"
  chmod 711 "$folder/munge"
  head -c 1024 /dev/urandom > "$folder/munge/key"
  chmod 400 "$folder/munge/key"
  munged --key-file="$folder/munge/key" --socket="$folder/munge/socket" --pid-file="$folder/munge/pid" --log-file="$folder/munge/log" \
    --seed-file="$folder/munge/seed" --force
  name=$(hostname -s)
  memory=$(($(awk '/MemTotal/ {print $2}' /proc/meminfo) / 1024 - 512))
  cat > "$SLURM_CONF" << CONF
ClusterName=grokinterp
SlurmctldHost=$name(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/munge/socket
CryptoType=crypto/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
ReturnToService=2
SlurmctldPort=16817
SlurmdPort=16818
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
NodeName=$name NodeAddr=127.0.0.1 CPUs=$(nproc) RealMemory=$memory State=UNKNOWN
PartitionName=all Nodes=$name Default=YES MaxTime=INFINITE State=UP
CONF
  slurmctld -f "$SLURM_CONF"
  slurmd -f "$SLURM_CONF" -N "$name"
  for _ in $(seq 30); do
    if sinfo -h -o %T 2> /dev/null | grep -q idle; then
      echo "export SLURM_CONF=$SLURM_CONF"
      return
    fi
    sleep 1
  done
  echo "the node does not come up; see $folder/slurmctld.log and $folder/slurmd.log" >&2
  exit 1
}

down() {
  for pid in "$folder"/slurmd.pid "$folder"/slurmctld.pid "$folder"/munge/pid; do
    [ ! -s "$pid" ] || kill "$(cat "$pid")" 2> /dev/null || true
  done
  sleep 1
  rm -rf "$folder"
}

case "${1:-}" in
  up) up ;;
  down) down ;;
  *) echo "usage: $0 up|down" >&2; exit 2 ;;
esac
