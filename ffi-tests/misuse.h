/* SPDX-License-Identifier: MIT
 * What misuse.c and misuse_http.c call with: which functions were called, wrong sizes, good arguments to spoil.
 */
#ifndef MISUSE_H
#define MISUSE_H

#include "bed.h"

/* Only in a library built with feature _test-hooks. */
extern dockline_status dockline_test_panic(void *handle);

static const char *called[96];

static void mark(const char *name)
{
    size_t i = 0;
    while (called[i] != NULL && strcmp(called[i], name) != 0)
        i++;
    REQUIRE(i < sizeof called / sizeof *called - 1);
    called[i] = name;
}

/* Calls a function of the library, and notes that it was called. */
#define CALL(function, ...) (mark(#function), function(__VA_ARGS__))
#define CALL_PLAIN(function) (mark(#function), function())
#define CHECK_STATUS(actual, expected) check_text(dockline_status_name(actual), #expected, __FILE__, __LINE__, #actual)
/* CHECK_STATUS with a status from a table. */
#define CHECK_GIVES(actual, expected) \
    check_text(dockline_status_name(actual), dockline_status_name(expected), __FILE__, __LINE__, #actual)

#define LENGTH(array) (sizeof(array) / sizeof *(array))

static int is_filled_with(const void *memory, int byte, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (((const uint8_t *)memory)[i] != byte)
            return 0;
    }
    return 1;
}

/* A struct with room behind it, for every size that might be passed. */
#define ROOM 64
struct size_case {
    const char *name;
    int64_t beyond;    /* added to the right size; or */
    size_t size;       /* this size, if it is not 0 */
    int tail_byte;     /* what lies behind the struct */
    dockline_status in, out;
};

static const struct size_case sizes[] = {
    {"1 byte", 0, 1, 0, DOCKLINE_E_SIZE, DOCKLINE_E_SIZE},
    {"one byte less", -1, 0, 0, DOCKLINE_E_SIZE, DOCKLINE_E_SIZE},
    {"right", 0, 0, 0x55, DOCKLINE_OK, DOCKLINE_OK},
    {"one byte more, zero", 1, 0, 0, DOCKLINE_OK, DOCKLINE_OK},
    {"one byte more, not zero", 1, 0, 0x55, DOCKLINE_E_SIZE, DOCKLINE_OK},
    {"larger, zero", ROOM, 0, 0, DOCKLINE_OK, DOCKLINE_OK},
    {"larger, not zero", ROOM, 0, 0x55, DOCKLINE_E_SIZE, DOCKLINE_OK},
    {"a negative number", 0, SIZE_MAX, 0, DOCKLINE_E_SIZE, DOCKLINE_E_SIZE},
    {"more than an object can have", 0, (size_t)PTRDIFF_MAX + 1, 0, DOCKLINE_E_SIZE, DOCKLINE_E_SIZE},
};

static size_t size_of(const struct size_case *row, size_t right)
{
    return row->size != 0 ? row->size : (size_t)((int64_t)right + row->beyond);
}

static void put(void *roomy, const void *value, size_t len, int tail_byte)
{
    memset(roomy, tail_byte, len + ROOM);
    memcpy(roomy, value, len);
}

/* Returns whether a function belongs to misuse_http.c; the others belong to misuse.c. */
static int is_for_http(const char *name)
{
    static const char *const prefixes[] = {"cause_",        "conn_",  "engine_", "exchange_", "phase_",
                                           "request_field", "route_", "routes_", "upstream_"};
    for (size_t i = 0; i < LENGTH(prefixes); i++) {
        if (strncmp(name + strlen("dockline_"), prefixes[i], strlen(prefixes[i])) == 0)
            return 1;
    }
    return 0;
}

/* Every function that the library exports and that is for HTTP, or not, was called. */
static void nothing_is_left_out(const char *path, int http)
{
    char name[128];
    int count = 0;
    FILE *file = fopen(path, "r");
    AT("%s", path);
    REQUIRE(file != NULL);
    while (fscanf(file, "%127s", name) == 1) {
        size_t i = 0;
        if (is_for_http(name) != http)
            continue;
        while (called[i] != NULL && strcmp(called[i], name) != 0)
            i++;
        AT("%s was called", name);
        CHECK(called[i] != NULL);
        count++;
    }
    fclose(file);
    AT("exports");
    CHECK(count >= 17);
}

#endif
