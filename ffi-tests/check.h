/* SPDX-License-Identifier: MIT
 * What every test program needs: checks that are counted, and a last line with the result. */
#ifndef CHECK_H
#define CHECK_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dockline.h"

struct check_counts {
    long done;
    long failed;
    /* Printed with a failure: the row of a table, say. */
    char at[256];
};

static struct check_counts check_counts;

/* Names the row of a table that the next checks are about. */
#define AT(...) ((void)snprintf(check_counts.at, sizeof check_counts.at, __VA_ARGS__))

#define CHECK(condition) check_that((condition) ? 1 : 0, __FILE__, __LINE__, #condition)
#define CHECK_EQ(actual, expected) \
    check_equal((intmax_t)(actual), (intmax_t)(expected), __FILE__, __LINE__, #actual, #expected)
#define CHECK_STR(actual, expected) check_text((actual), (expected), __FILE__, __LINE__, #actual)
/* For what a test cannot go on without. */
#define REQUIRE(condition)                                \
    do {                                                  \
        if (!CHECK(condition)) {                          \
            perror("errno, for what it is worth");        \
            exit(1);                                      \
        }                                                 \
    } while (0)

/* REQUIRE for a call of the library. */
#define REQUIRE_OK(call) require_ok((call), __FILE__, __LINE__, #call)

static inline int check_that(int holds, const char *file, int line, const char *text)
{
    check_counts.done++;
    if (!holds) {
        check_counts.failed++;
        fprintf(stderr, "%s:%d: [%s] not true: %s\n", file, line, check_counts.at, text);
    }
    return holds;
}

static inline int check_equal(intmax_t actual, intmax_t expected, const char *file, int line,
                              const char *actual_text, const char *expected_text)
{
    check_counts.done++;
    if (actual != expected) {
        check_counts.failed++;
        fprintf(stderr, "%s:%d: [%s] %s is %jd, not %s (%jd)\n", file, line, check_counts.at,
                actual_text, actual, expected_text, expected);
    }
    return actual == expected;
}

static inline int check_text(const char *actual, const char *expected, const char *file, int line,
                             const char *text)
{
    check_counts.done++;
    if (actual == NULL || strcmp(actual, expected) != 0) {
        check_counts.failed++;
        fprintf(stderr, "%s:%d: [%s] %s is \"%s\", not \"%s\"\n", file, line, check_counts.at, text,
                actual == NULL ? "NULL" : actual, expected);
        return 0;
    }
    return 1;
}

static inline void require_ok(dockline_status status, const char *file, int line, const char *text)
{
    if (!check_text(dockline_status_name(status), "DOCKLINE_OK", file, line, text))
        exit(1);
}

static inline int is_text(dockline_str text, const char *expected)
{
    return text.data != NULL && text.len == strlen(expected) && memcmp(text.data, expected, text.len) == 0;
}

static inline int is_absent(dockline_str text)
{
    return text.data == NULL && text.len == 0;
}

/* The exit status of the program. */
static inline int check_summary(const char *program)
{
    if (check_counts.failed != 0) {
        printf("FAILED %s: %ld of %ld checks\n", program, check_counts.failed, check_counts.done);
        return 1;
    }
    printf("ok %s (%ld checks)\n", program, check_counts.done);
    return 0;
}

#endif
