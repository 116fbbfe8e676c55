#!/bin/bash
# The description of the kernel interface for syzkaller agrees with the header.
set -euo pipefail

top=$(cd "$(dirname "$(realpath "$0")")/../.." && pwd)
echo "note: $("$top/tests/fuzz/syzkaller/check")"
