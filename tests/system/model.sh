#!/bin/bash
# The models of the doorbell protocol, visited completely, and each mistake that is
# put into them found.
set -euo pipefail

top=$(cd "$(dirname "$(realpath "$0")")/../.." && pwd)

"$top/tests/model/run" | awk '{ print } /^model: / { sub(/^model: /, "note: "); print }'
