#!/bin/bash
# Run a command that leads studies on a Ray cluster: on-ray-node.sh HEAD:PORT COMMAND...
# A process can lead trials only from a machine of the cluster. So this joins it as a machine without cores and GPUs,
# runs the command, and leaves. If Ray ends here, because the head is gone, the command is asked to end as well, so that
# the container ends and is started again.
set -u
head=$1
shift
port=${RAY_NODE_PORT:-6380} # of this machine's raylet; health checks connect to it

ray start --block --address="$head" --node-manager-port="$port" --num-cpus=0 --num-gpus=0 \
  --object-store-memory=134217728 &
node=$!
trap 'kill -TERM "$node"' TERM INT
until (: >"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do
  kill -0 "$node" 2>/dev/null || exit 1
  sleep 0.5
done

asked=""
ask() { # once: the second SIGTERM stops at once
  [ -n "$asked" ] || kill -TERM "$command" 2>/dev/null
  asked=1
}
"$@" &
command=$!
trap ask TERM INT
ended=""
wait -n -p ended "$node" "$command"
status=$?
if [ "${ended:-}" != "$command" ]; then
  ask
  while kill -0 "$command" 2>/dev/null; do
    wait "$command"
    status=$?
  done
fi
kill -TERM "$node" 2>/dev/null
wait "$node"
exit "$status"
