#!/usr/bin/env bash
# What a plain `aws s3 sync` makes of the same job: every 60 seconds, and when anything has come, a reload.
# Argument: webserver or daemon. The working directory has workspace.yaml and takes dags/.
set -euo pipefail

readonly service=$1 interval=60

# Better than the plain command: without --exact-timestamps a change that keeps a file's size never arrives, and without
# --exclude each call deletes Python's byte code and so finds something to do.
fetch() {
  aws s3 sync "s3://$DAGSTER_S3_BUCKET/dags/" dags/ --delete --no-progress --exact-timestamps --exclude '*__pycache__*'
}

# The webserver loads the code anew when it is asked to; the daemon does so by itself, every 60 seconds.
reload() {
  local query='{"query": "mutation { reloadWorkspace { __typename } }"}'
  exec 3<>"/dev/tcp/127.0.0.1/$DAGSTER_WEBSERVER_PORT" || return 0
  printf 'POST /graphql HTTP/1.0\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s' \
    ${#query} "$query" >&3
  cat <&3 >/dev/null
  exec 3<&-
}

fetch
case $service in
  webserver) dagster-webserver -h 127.0.0.1 -p "$DAGSTER_WEBSERVER_PORT" -w workspace.yaml --log-level warning & ;;
  daemon) dagster-daemon run -w workspace.yaml & ;;
esac
while sleep "$interval"; do
  fetched=$(fetch)
  if [ -n "$fetched" ] && [ "$service" = webserver ]; then reload; fi
done
