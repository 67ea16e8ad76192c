#!/usr/bin/env bash
# Write what the checkout would change on a platform, as Markdown: examples/plan.sh INVENTORY FILE.
#
# For the comment on a pull request. Changes nothing, on AWS or elsewhere; needs credentials that may look. What the code
# under review prints ends up in the file, so it can neither end the block it stands in nor be longer than a comment may be.
set -euo pipefail

if [ $# != 2 ]; then
  echo "ERROR: name an inventory and a file, e.g. examples/plan.sh production plan.md" >&2
  exit 2
fi
# Two of them fit into a comment of GitHub, 65,536 characters.
readonly LONGEST=30000
inventory=$1 file=$2 failed=0
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# section <title> <make target> <arguments>: append what it prints.
section() {
  local title=$1 output
  shift
  if ! output=$(NO_COLOR=1 ANSIBLE_NOCOLOR=1 make "$@" 2>&1); then
    failed=1
    title="$title: **failed**"
  fi
  output=${output//"~~~"/"~ ~ ~"}
  if [ ${#output} -gt "$LONGEST" ]; then
    # The beginning says what it is about, the end has the sums.
    output=${output:0:LONGEST/2}$'\n\n[…]\n\n'${output: -LONGEST/2}
  fi
  printf '### %s\n\n~~~~~~text\n%s\n~~~~~~\n\n' "$title" "$output" >>"$file"
}

printf '## Plan for "%s"\n\n' "$inventory" >"$file"
section DAGs deploy-dags ENV="$inventory" ARGS="--check --diff"
section Infrastructure infra-plan ENV="$inventory"
exit "$failed"
