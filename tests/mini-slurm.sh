#!/usr/bin/env bash
# A private Slurm cluster of emulated nodes on this machine, without systemd or cgroups, for test_slurm.sh.
#   mini-slurm.sh start FOLDER NODES CPUS_PER_NODE PORT      then: export SLURM_CONF=FOLDER/slurm.conf
#   mini-slurm.sh stop FOLDER
# FOLDER must be short: it holds unix sockets, whose paths end at 108 bytes. Needs slurmctld, slurmd, munged.
set -euo pipefail
command=$1
mkdir -p "$2"
folder=$(cd "$2" && pwd)

write_conf() {
    local nodes=$1 cpus=$2 port=$3 host me memory
    host=$(hostname -s)
    me=$(id -un)
    memory=$(($(awk '/MemTotal/ {print int($2 / 1024)}' /proc/meminfo) * 9 / 10 / nodes))
    cat >"$folder/slurm.conf" <<CONF
ClusterName=mini
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$port
SlurmUser=$me
SlurmdUser=$me
AuthType=auth/munge
AuthInfo=socket=$folder/run/munge.sock,cred_expire=5
CredType=cred/munge
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/run/spool.%n
# Nodes on one host would share the folder of the PMIx plugin, which then refuses to start.
TmpFS=$folder/run/tmp.%n
SlurmctldPidFile=$folder/run/slurmctld.pid
SlurmdPidFile=$folder/run/slurmd.%n.pid
SlurmctldLogFile=$folder/log/slurmctld.log
SlurmdLogFile=$folder/log/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
MpiDefault=pmix
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=0,sched_min_interval=0
# Believe the number of CPUs below, which may be more than there are.
SlurmdParameters=config_overrides
ReturnToService=2
SlurmdTimeout=60
KillWait=5
MailProg=/bin/true
NodeName=n[1-$nodes] NodeHostname=$host NodeAddr=127.0.0.1 Port=[$((port + 1))-$((port + nodes))] CPUs=$cpus Boards=1 SocketsPerBoard=1 CoresPerSocket=$cpus ThreadsPerCore=1 RealMemory=$memory State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
CONF
}

start() {
    local nodes=$1 idle i
    mkdir -p "$folder"/{state,log,run,munge}
    chmod 700 "$folder/munge"
    chmod 755 "$folder" "$folder/run"
    if [ ! -s "$folder/munge/key" ]; then
        head -c 1024 /dev/urandom >"$folder/munge/key"
        chmod 400 "$folder/munge/key"
    fi
    munged --key-file="$folder/munge/key" --socket="$folder/run/munge.sock" --pid-file="$folder/munge/munged.pid" \
        --log-file="$folder/munge/munged.log" --seed-file="$folder/munge/munged.seed" --force 2>>"$folder/log/munge.err"
    write_conf "$@"
    export SLURM_CONF=$folder/slurm.conf
    slurmctld -c -i -f "$SLURM_CONF"
    for i in $(seq 1 "$nodes"); do
        mkdir -p "$folder/run/spool.n$i" "$folder/run/tmp.n$i"
        # Open MPI names shared memory by host name: emulated nodes need names of their own (root only; otherwise
        # jobs must run with OMPI_MCA_btl=self,tcp).
        if unshare --uts true 2>/dev/null; then
            unshare --uts sh -c "hostname n$i; exec slurmd -N n$i -f '$SLURM_CONF'"
        else
            slurmd -N "n$i" -f "$SLURM_CONF"
        fi
    done
    for i in $(seq 1 150); do
        idle=$(sinfo -h -o '%T %D' 2>/dev/null | awk '$1 == "idle" {n += $2} END {print n + 0}')
        [ "$idle" != "$nodes" ] || return 0
        sleep 0.2
    done
    echo "the private Slurm cluster did not come up; logs in $folder/log" >&2
    tail -n 5 "$folder"/log/*.log >&2 || true
    return 1
}

stop() {
    local file i
    export SLURM_CONF=$folder/slurm.conf
    scancel -u "$(id -un)" 2>/dev/null || true
    for file in "$folder"/run/slurmd.*.pid "$folder/run/slurmctld.pid" "$folder/munge/munged.pid"; do
        [ ! -s "$file" ] || kill "$(cat "$file")" 2>/dev/null || true
    done
    for i in $(seq 1 50); do
        compgen -G "$folder/run/*.pid" >/dev/null || break
        sleep 0.1
    done
}

case $command in
start) start "$3" "$4" "$5" ;;
stop) stop ;;
*) echo "usage: mini-slurm.sh start FOLDER NODES CPUS PORT | stop FOLDER" >&2; exit 2 ;;
esac
