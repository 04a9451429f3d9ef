#!/bin/sh
# The header by itself: every language it is for, no name that is not ours, and the functions that the
# library exports. Leaves their names in a file.
#
#     header.sh HEADER LIBRARY NAMES
set -eu
header=$1 library=$2 names=$3
failed=0

fail() {
    printf 'FAILED header: %s\n' "$1"
    failed=1
}

for standard in c99 c11 c17; do
    "${CC:-cc}" -std=$standard -Wall -Wextra -Werror -pedantic-errors -Wstrict-prototypes -fsyntax-only \
        -include "$header" -x c /dev/null || fail "does not compile as $standard"
done
for standard in c++11 c++17 c++20; do
    "${CXX:-c++}" -std=$standard -Wall -Wextra -Werror -pedantic-errors -fsyntax-only \
        -include "$header" -x c++ /dev/null || fail "does not compile as $standard"
done

# Without comments, and without what it includes.
code=$("${CC:-cc}" -fpreprocessed -dD -E -P -w -x c "$header")
foreign=$(printf '%s\n' "$code" | sed -n \
    -e 's/^#define \([A-Za-z0-9_]*\).*/\1/p' \
    -e 's/^typedef .*[ *]\([A-Za-z0-9_]*\);$/\1/p' \
    -e 's/^} *\([A-Za-z0-9_]*\);$/\1/p' | grep -v -e '^DOCKLINE_' -e '^dockline_' || true)
[ -z "$foreign" ] || fail "names without our prefix: $(echo $foreign)"

declared=$(printf '%s\n' "$code" | grep -v '^static inline' | grep -o '\bdockline_[a-z0-9_]*(' | tr -d '(' | sort -u)
exported=$(nm -D --defined-only "$library" | awk '{ print $3 }' | sort -u)
printf '%s\n' "$exported" > "$names"
[ "$(printf '%s\n' $declared dockline_test_panic | sort)" = "$exported" ] ||
    fail "declared: $(echo $declared); exported: $(echo $exported)"

[ $failed = 0 ] && printf 'ok header (%s functions)\n' "$(printf '%s\n' $declared | wc -l)"
exit $failed
