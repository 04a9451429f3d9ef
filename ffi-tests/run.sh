#!/bin/sh
# Runs what the Makefile built and reports each result; the output of a program is shown when it fails.
#
#     run.sh DIRECTORY LIBRARY HEADER
set -u
out=$1 library=$2 header=$3
memcheck="${VALGRIND:-valgrind} -q --leak-check=full --show-leak-kinds=definite,indirect
    --errors-for-leak-kinds=definite,indirect --error-exitcode=99"
runs=0 failed=0

# The programs cause panics on purpose; their backtraces would only take time.
export RUST_BACKTRACE=0
export ASAN_OPTIONS=detect_leaks=1:detect_stack_use_after_return=1
export UBSAN_OPTIONS=print_stacktrace=1

# run NAME COMMAND...
run() {
    name=$1
    shift
    runs=$((runs + 1))
    timeout 60 "$@" > "$out/log" 2>&1
    status=$?
    if [ $status = 0 ] && grep -q '^ok ' "$out/log"; then
        printf 'ok %s\n' "$name"
    else
        failed=$((failed + 1))
        cat "$out/log"
        printf 'FAILED %s: exit status %s\n' "$name" $status
    fi
}

run header ./header.sh "$header" "$library" "$out/names"
run manual ./manual.sh "$(dirname "$library")" "$out"
for program in version hijack relay ends conn engine routing misuse misuse_http routes structsize buffers dlopen cplusplus \
    relay_server conn_proxy engine_server; do
    for variant in shared static shared-san static-san; do
        command=$out/$program-$variant argument=
        case $program in
        misuse | misuse_http) argument=$out/names ;;
        dlopen) argument=$library ;;
        esac
        case $program-$variant in
        dlopen-static*) continue ;; # there is nothing to load
        relay_server-*-san) run "$program $variant" "$out/server-driver" "$command" ;;
        relay_server-*) run "$program $variant, memcheck" "$out/server-driver" $memcheck "$command" ;;
        conn_proxy-*-san | engine_server-*-san) run "$program $variant" "$out/proxy-driver" "$command" ;;
        conn_proxy-* | engine_server-*)
            run "$program $variant, memcheck" "$out/proxy-driver" $memcheck "$command"
            ;;
        *-san) run "$program $variant" "$command" $argument ;;
        *)
            run "$program $variant" "$command" $argument
            run "$program $variant, memcheck" $memcheck "$command" $argument
            ;;
        esac
    done
done
printf 'ffi-tests: %s runs, %s failed\n' $runs $failed
[ $failed = 0 ]
