#!/bin/bash
# The container's entrypoint: webserver | daemon | healthcheck | any other command.
set -euo pipefail

: "${DAGSTER_IMAGE_DIR:=/opt/dagster}"
: "${DAGSTER_HOME:=/var/lib/dagster/home}"
: "${DAGSTER_HEALTH_PORT:=8080}"
# glibc keeps memory for each thread apart; with one arena the processes of a 512 MB task are some MB smaller.
: "${MALLOC_ARENA_MAX:=1}"
export DAGSTER_IMAGE_DIR DAGSTER_HOME DAGSTER_HEALTH_PORT MALLOC_ARENA_MAX

fail() {
  printf 'entrypoint.sh: %s\n' "$1" >&2
  exit 2
}

# Asks the supervisor, without starting a Python every time: 0 when it answers 200.
healthcheck() {
  local status
  exec 3<>"/dev/tcp/127.0.0.1/${DAGSTER_HEALTH_PORT}" || exit 1
  printf 'GET /health HTTP/1.0\r\nHost: localhost\r\n\r\n' >&3
  read -r -t 4 _ status _ <&3 || exit 1
  [ "${status}" = 200 ]
}

case "${1:-}" in
  healthcheck)
    healthcheck
    exit
    ;;
  webserver | daemon)
    for name in DAGSTER_S3_BUCKET DAGSTER_POSTGRES_HOST DAGSTER_POSTGRES_PORT DAGSTER_POSTGRES_USER DAGSTER_POSTGRES_PASSWORD DAGSTER_POSTGRES_DB; do
      [ -n "${!name:-}" ] || fail "${name} is not set. The task definition sets it: run site.yml again, or pass it with \`-e ${name}=...\` when you start the container by hand."
    done
    mkdir -p "${DAGSTER_HOME}"
    cp -f "${DAGSTER_IMAGE_DIR}/dagster.yaml" "${DAGSTER_HOME}/dagster.yaml"
    cd "${DAGSTER_HOME}"
    export DAGSTER_SERVICE="$1"
    exec python -m dagster_ecs_runtime "$1"
    ;;
  "")
    fail "no command given; valid choices: webserver, daemon, healthcheck, or a program to run"
    ;;
  *)
    mkdir -p "${DAGSTER_HOME}"
    cp -f "${DAGSTER_IMAGE_DIR}/dagster.yaml" "${DAGSTER_HOME}/dagster.yaml"
    exec "$@"
    ;;
esac
