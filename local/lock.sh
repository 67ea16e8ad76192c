#!/usr/bin/env bash
# Lock every set of dependencies anew, with hashes. In this order: later sets are constrained by earlier ones.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Any environment brings uv along.
local/bootstrap.sh controller

for set in requirements docker/requirements requirements/{uv,local,test,bench,scan,supply,awx,execution}; do
  echo "Locking $set.in"
  # Neither index nor paths of this machine get into the file.
  .venv/uv/bin/uv pip compile --quiet --upgrade --universal --python-version 3.12 --generate-hashes \
    --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" "$set.in" --output-file "$set.txt"
done
git --no-pager diff --stat -- '*.txt'
