#!/usr/bin/env bash
# A Slurm cluster of one node on this machine, for the tests of LAUNCHER=slurm: munge, MariaDB, slurmdbd, slurmctld, slurmd
# from the Debian packages, with all files in DIR and all ports on 127.0.0.1.
#   one_node.sh start DIR    then: export SLURM_CONF=DIR/slurm.conf; sinfo; sbatch ...; sacct
#   one_node.sh stop DIR
# Needs root (apt-get, the user of munge). Exit code 3: the packages cannot be installed here.
set -euo pipefail
action="${1:?start or stop}" dir="$(realpath -m "${2:?a folder of its own}")"
export SLURM_CONF="$dir/slurm.conf"

stop() {
    for name in slurmd slurmctld slurmdbd mariadbd munged; do
        [ -s "$dir/$name.pid" ] && kill "$(cat "$dir/$name.pid")" 2>/dev/null && sleep 1
    done
    return 0
}

packages() {
    command -v slurmctld slurmd slurmdbd sbatch sacct munged mariadbd >/dev/null && return
    apt-get update -qq >/dev/null 2>&1
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq slurm-wlm slurmdbd munge mariadb-server >"$dir/apt.log" 2>&1 || exit 3
}

start() {
    mkdir -p "$dir"/{state,spool,mysql,log}
    packages
    local node cpus port
    node="$(hostname -s)" cpus="$(nproc)" port=$((20000 + RANDOM % 20000))
    cat >"$dir/slurm.conf" <<CONF
ClusterName=one
SlurmctldHost=$node(127.0.0.1)
SlurmctldPort=$port
SlurmdPort=$((port + 1))
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$dir/munge.socket
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd.pid
SlurmctldLogFile=$dir/log/slurmctld
SlurmdLogFile=$dir/log/slurmd
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePass=$dir/munge.socket
AccountingStoragePort=$((port + 2))
JobAcctGatherType=jobacct_gather/linux
MpiDefault=none
ReturnToService=2
NodeName=$node NodeAddr=127.0.0.1 CPUs=$cpus RealMemory=$(($(awk '/MemTotal/ {print $2}' /proc/meminfo) / 1024 - 1024)) State=UNKNOWN
PartitionName=debug Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
    cat >"$dir/slurmdbd.conf" <<CONF
AuthType=auth/munge
AuthInfo=socket=$dir/munge.socket
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort=$((port + 2))
SlurmUser=root
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort=$((port + 3))
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm_acct_db
LogFile=$dir/log/slurmdbd
PidFile=$dir/slurmdbd.pid
CONF
    chmod 600 "$dir/slurmdbd.conf"
    dd if=/dev/urandom of="$dir/munge.key" bs=1024 count=1 status=none
    chmod 600 "$dir/munge.key"
    munged --force --key-file="$dir/munge.key" --socket="$dir/munge.socket" --pid-file="$dir/munged.pid" \
        --log-file="$dir/log/munged" --seed-file="$dir/munge.seed"
    chown -R mysql "$dir/mysql"
    chmod o+x "$dir"
    mariadb-install-db --user=mysql --datadir="$dir/mysql" --auth-root-authentication-method=normal >"$dir/log/mysql-install" 2>&1
    mariadbd --no-defaults --user=mysql --datadir="$dir/mysql" --socket="$dir/mysql/socket" --pid-file="$dir/mysql/pid" \
        --bind-address=127.0.0.1 --port=$((port + 3)) >"$dir/log/mariadbd" 2>&1 &
    echo $! >"$dir/mariadbd.pid"
    for _ in $(seq 60); do mariadb --no-defaults -uroot -S "$dir/mysql/socket" -e "" 2>/dev/null && break; sleep 0.5; done
    mariadb --no-defaults -uroot -S "$dir/mysql/socket" -e "create user slurm@'127.0.0.1' identified by 'slurm'; create user slurm@localhost identified by 'slurm';
        grant all on slurm_acct_db.* to slurm@'127.0.0.1'; grant all on slurm_acct_db.* to slurm@localhost; flush privileges"
    slurmdbd
    for _ in $(seq 60); do sacctmgr -n list cluster >/dev/null 2>&1 && break; sleep 0.5; done
    sacctmgr -i add cluster one >/dev/null 2>&1 || true
    slurmctld
    slurmd
    for _ in $(seq 60); do [ "$(sinfo -h -o %T 2>/dev/null)" = idle ] && break; sleep 0.5; done
    sinfo
    echo "export SLURM_CONF=$SLURM_CONF"
}

"$action"
