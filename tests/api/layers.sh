#!/bin/sh
# Who may include what: io and stages know nothing of the engine, tools know the public headers only.
cd "$1" || exit 1
bad=0
# folder, then a pattern of #include "..." lines it may use
allow() {
    out=$(grep -rnE '^#include "' "$1" --include='*.c' --include='*.h' | grep -vE "\"($2)")
    [ -z "$out" ] || { echo "$1 may include only $2:"; echo "$out"; bad=1; }
}
allow include/eestream 'eestream/'
allow include/common 'eestream/|common/'
allow engine/base 'eestream/|common/'
allow io 'eestream/|common/|io/'
allow stages 'eestream/|common/|stages/'
allow engine 'eestream/|common/|engine/|stages/(stage|json)\.h"'
allow tools/cli 'eestream/|tools/cli/|cli/|[a-z_]+\.h"'
allow examples 'eestream/'
out=$(grep -rnE '^#include [<"](common|engine|stages|io)/' tools/cli examples 2>/dev/null)
[ -z "$out" ] || { echo "tools and examples use the public headers only:"; echo "$out"; bad=1; }
exit $bad
