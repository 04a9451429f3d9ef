#!/bin/sh
# The examples of the manual compile, as C11 and as C++17: every ```c block of the header's head, of docs/ABI.md and of
# README.md. A block with main() is a program of its own, and is linked, too. Any other block follows manual.h: as it is if
# it defines a function, else as the body of one.
#
#     manual.sh LIBRARY-DIRECTORY OUT-DIRECTORY
set -eu
library=$1 out=$2/manual
flags='-Wall -Wextra -Werror -Wpedantic -I../include -I.'
failed=0 count=0
rm -rf "$out"
mkdir -p "$out"

# extract FILE PREFIX: writes each block to PREFIX-LINE.c; the header has them in a comment.
extract() {
    sed 's/^ \* \{0,1\}//' "$1" | awk -v prefix="$2" '
        /^```c$/ { name = sprintf("%s-%d.c", prefix, NR); next }
        /^```/ && name { close(name); name = ""; next }
        name { print > name }'
}
extract ../include/dockline.h "$out/dockline.h"
extract ../docs/ABI.md "$out/ABI.md"
extract ../README.md "$out/README.md"

for block in "$out"/*.c; do
    program=${block%.c}
    count=$((count + 1))
    if grep -q '^int main(' "$block"; then
        what="-L$library -ldockline -o $program"
    else
        what=-fsyntax-only
        {
            echo '#include "manual.h"'
            if grep -q '^{$' "$block"; then
                echo "#line 1 \"$program\""
                cat "$block"
            else
                printf 'void manual(void);\nvoid manual(void)\n{\n#line 1 "%s"\n' "$program"
                cat "$block"
                echo '}'
            fi
        } > "$program.wrapped"
        mv "$program.wrapped" "$block"
    fi
    "${CC:-cc}" -std=c11 $flags -x c "$block" $what || failed=1
    "${CXX:-c++}" -std=c++17 $flags -x c++ "$block" $what || failed=1
done
[ $count -ge 8 ] || { echo "found only $count examples"; failed=1; }
[ $failed = 0 ] && echo "ok manual ($count examples)"
exit $failed
