#!/usr/bin/env bash
# Gives:     a Ray cluster on the nodes of one Slurm job, which runs one experiment on it and ends with it
# Costs:     the nodes from start to end, whole: nodes × GPUs × hours of your budget, up to 2 × 1 × 24 GPU-hours here
# Launch:    sbatch clusters/slurm.sh FILE      (where raydisc and ray[default] are installed, on storage of all nodes)
# Submit:    FILE is run by the launch. More while it runs, where the node is reached by SSH (the job's output
#            names NODE, PORT and the token's PATH):
#            ssh -N -L 8265:127.0.0.1:PORT NODE &
#            export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=PATH RAY_ADDRESS=http://127.0.0.1:8265
#            raydisc submit FILE      (then: raydisc status|logs --follow|stop|ls)
# Tear down: scancel JOB      (the running trials write a checkpoint; the same launch goes on from there)
#SBATCH --job-name=raydisc
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --gpus-per-node=1
#SBATCH --mem=0
#SBATCH --time=24:00:00
#SBATCH --exclusive
#SBATCH --signal=B:TERM@120
# --exclusive: Ray's nodes listen on the cluster's network, and not all that they tell asks for the token (metrics).
set -euo pipefail
umask 077

[ $# -ge 1 ] || { echo "usage: sbatch $0 FILE [further words of raydisc run]" >&2; exit 2; }
[ "$(id -u)" -ne 0 ] || { echo "not as root" >&2; exit 2; }

folder=$(mktemp -d "${RAYDISC_SHARED:-$HOME}/.raydisc-$SLURM_JOB_ID-XXXX")  # where all nodes see the token
session=$(mktemp -d /tmp/raydisc-XXXXXX)                                     # Ray's own files and sockets
head=$(hostname)
address=$(hostname --ip-address | awk '{print $1}')
port=$((20000 + SLURM_JOB_ID % 10000))
dashboard=$((port + 10000))
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$folder/token RAY_USAGE_STATS_ENABLED=0
unset RAY_ADDRESS RAY_AUTH_TOKEN

steps=()
tear_down() {
    trap '' TERM INT
    if [ ${#steps[@]} -gt 0 ]; then
        kill -TERM "${steps[@]}" 2> /dev/null || true
        wait "${steps[@]}" 2> /dev/null || true
    fi
    rm -rf "$folder" "$session"
}
trap tear_down EXIT
trap 'exit 3' TERM INT  # until the driver runs

python -c 'import secrets; print(secrets.token_hex(32), end="")' > "$RAY_AUTH_TOKEN_PATH"

start_node() { # HOST WORDS...: a step that lasts as long as the node does
    local host=$1
    shift
    srun --nodes=1 --ntasks=1 --nodelist="$host" --overlap ray start --block \
        --num-cpus="$SLURM_CPUS_PER_TASK" --num-gpus="${SLURM_GPUS_ON_NODE:-0}" "$@" > "$folder/$host.log" 2>&1 &
    steps+=($!)
}

give_up_if_one_ended() {
    for step in "${steps[@]}"; do
        kill -0 "$step" 2> /dev/null || give_up "a node did not start"
    done
}

give_up() { # REASON
    tail -n 20 "$folder"/*.log >&2
    echo "$1" >&2
    exit 1
}

nodes_alive() {
    python -c 'import ray; ray.init(); print(sum(node["Alive"] for node in ray.nodes()))' 2> "$folder/driver.log"
}

start_node "$head" --head --node-ip-address="$address" --port="$port" \
    --dashboard-host=127.0.0.1 --dashboard-port="$dashboard" --temp-dir="$session"
export RAY_ADDRESS=$address:$port
until ray health-check --address "$RAY_ADDRESS" > /dev/null 2>&1; do
    give_up_if_one_ended
    sleep 2
done
for host in $(scontrol show hostnames "$SLURM_JOB_NODELIST"); do
    [ "$host" = "$head" ] || start_node "$host" --address="$RAY_ADDRESS"
done
for _ in $(seq 60); do # raydisc plans with the nodes that are there
    alive=$(nodes_alive) || alive=0
    [ "$alive" -lt "$SLURM_NNODES" ] || break
    give_up_if_one_ended
    sleep 2
done
[ "$alive" -eq "$SLURM_NNODES" ] || give_up "$alive of $SLURM_NNODES nodes came up"
echo "NODE $head, PORT $dashboard, PATH $RAY_AUTH_TOKEN_PATH"

raydisc run "$@" &
driver=$!
trap 'kill -TERM $driver' TERM INT
while kill -0 "$driver" 2> /dev/null; do # a signal ends the waiting, not yet the driver
    wait "$driver" || true
done
wait "$driver"
