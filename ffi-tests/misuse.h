/* SPDX-License-Identifier: MIT
 * What misuse.c calls with: which functions were called, wrong sizes, good arguments to spoil.
 */
#ifndef MISUSE_H
#define MISUSE_H

#include "bed.h"

static const char *called[64];

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
/* The same for a status that a table gives. */
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

/* A struct with room behind it, for every size that somebody might pass. */
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

static const uint8_t method[] = "GET", target[] = "/info";

static dockline_request_facts good_request(void)
{
    dockline_request_facts facts;
    memset(&facts, 0, sizeof facts);
    facts.method = method;
    facts.method_len = 3;
    facts.target = target;
    facts.target_len = 5;
    facts.version = DOCKLINE_HTTP_11;
    return facts;
}

static dockline_response_facts good_response(void)
{
    dockline_response_facts facts;
    memset(&facts, 0, sizeof facts);
    facts.status = 200;
    return facts;
}

static dockline_status plan(const dockline_request_facts *facts, size_t facts_size)
{
    dockline_request_plan out;
    memset(&out, 0x55, sizeof out);
    dockline_status status = CALL(dockline_request_plan_make, facts, facts_size, &out, sizeof out);
    CHECK_EQ(is_filled_with(&out, 0x55, sizeof out), status != DOCKLINE_OK);
    return status;
}

static dockline_status decide(const dockline_request_facts *request, size_t request_size,
                              const dockline_response_facts *response, size_t response_size)
{
    int32_t out = 0x55;
    dockline_status status = CALL(dockline_hijack_decide, request, request_size, response, response_size, &out);
    CHECK_EQ(out == 0x55, status != DOCKLINE_OK);
    return status;
}

#endif
