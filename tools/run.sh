#!/bin/bash
# Starts the server and prints the lines to try.
set -euo pipefail
cd "$(dirname "$0")/.."
build=${1:-build}
listen=${LISTEN:-127.0.0.1:8080}
cat <<TEXT

Try these in another terminal, from this directory:

  curl -X POST --data-binary @$build/samples/first.wasm 'http://$listen/create?name=first_app'
  curl -X POST 'http://$listen/run?name=first_app'

TEXT
exec "$build/0asm" serve --listen "$listen" --state "${STATE:-state}"
