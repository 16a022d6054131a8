#!/bin/sh
# The program of the proxy's container: HAProxy, as soon as the agent has written its configuration. It is no child of the
# agent, so that requests go on when the agent ends.
run=${1:-/var/run/modelswap}
trap 'exit 0' TERM INT
until [ -s "$run/haproxy.cfg" ]; do sleep 0.05; done
haproxy -db -f "$run/haproxy.cfg" &
haproxy=$!
# HAProxy's own answer to SIGTERM is to cut what is in flight.
trap 'kill -USR1 "$haproxy"' TERM INT
while :; do
  wait "$haproxy"
  status=$?
  kill -0 "$haproxy" 2>/dev/null || exit "$status"
done
