/* SPDX-License-Identifier: MIT
 * The numbers of the ABI are frozen, and everything that has a number has a name. */
#include "check.h"

#if DOCKLINE_ABI_VERSION != 1
#error "constants are for the preprocessor, too; and a new ABI needs a new soname"
#endif

struct number {
    const char *name;
    int64_t value;
    int64_t expected;
};

/* Numbers are never used again: a row may be added, none changed. */
static const struct number numbers[] = {
#define ROW(name, expected) {#name, name, expected}
    ROW(DOCKLINE_HTTP_10, 10),
    ROW(DOCKLINE_HTTP_11, 11),
    ROW(DOCKLINE_HTTP_20, 20),
    ROW(DOCKLINE_HTTP_30, 30),
    ROW(DOCKLINE_ALLOW_CONNECT, 1),
    ROW(DOCKLINE_REQUEST_ORDINARY, 0),
    ROW(DOCKLINE_REQUEST_FOLLOWED, 1),
    ROW(DOCKLINE_REQUEST_SWITCH, 2),
    ROW(DOCKLINE_RESPONSE_HAS_LENGTH, 1),
    ROW(DOCKLINE_RESPONSE_HAS_TRANSFER_ENCODING, 2),
    ROW(DOCKLINE_DECISION_MESSAGE, 0),
    ROW(DOCKLINE_DECISION_INTERIM, 1),
    ROW(DOCKLINE_DECISION_TUNNEL_UPGRADE, 2),
    ROW(DOCKLINE_DECISION_TUNNEL_RAW, 3),
    ROW(DOCKLINE_DECISION_TUNNEL_CONNECT, 4),
    ROW(DOCKLINE_DECISION_REFUSE, 5),
    ROW(DOCKLINE_IO_AGAIN, -1),
    ROW(DOCKLINE_IO_RESET, -2),
    ROW(DOCKLINE_RELAY_NO_SPLICE, 1),
    ROW(DOCKLINE_RELAY_KEEP_SOCKET_OPTIONS, 2),
    ROW(DOCKLINE_DOWNSTREAM_READ, 0x01),
    ROW(DOCKLINE_DOWNSTREAM_WRITE, 0x02),
    ROW(DOCKLINE_DOWNSTREAM_HUP, 0x04),
    ROW(DOCKLINE_DOWNSTREAM_GONE, 0x08),
    ROW(DOCKLINE_UPSTREAM_READ, 0x10),
    ROW(DOCKLINE_UPSTREAM_WRITE, 0x20),
    ROW(DOCKLINE_UPSTREAM_HUP, 0x40),
    ROW(DOCKLINE_UPSTREAM_GONE, 0x80),
    ROW(DOCKLINE_RELAY_RUNNING, 0),
    ROW(DOCKLINE_RELAY_YIELD, 1),
    ROW(DOCKLINE_RELAY_DONE, 2),
    ROW(DOCKLINE_CLOSE_NONE, 0),
    ROW(DOCKLINE_CLOSE_EOF, 1),
    ROW(DOCKLINE_CLOSE_LINGER, 2),
    ROW(DOCKLINE_CLOSE_IDLE, 3),
    ROW(DOCKLINE_CLOSE_DOWNSTREAM_RESET, 4),
    ROW(DOCKLINE_CLOSE_UPSTREAM_RESET, 5),
    ROW(DOCKLINE_CLOSE_DRAIN, 6),
    ROW(DOCKLINE_CLOSE_KILLED, 7),
    ROW(DOCKLINE_SIDE_NONE, 0),
    ROW(DOCKLINE_SIDE_DOWNSTREAM, 1),
    ROW(DOCKLINE_SIDE_UPSTREAM, 2),
    ROW(DOCKLINE_LOG_ERROR, 1),
    ROW(DOCKLINE_LOG_WARN, 2),
    ROW(DOCKLINE_LOG_INFO, 3),
    ROW(DOCKLINE_OK, 0),
    ROW(DOCKLINE_E_NULL, -100),
    ROW(DOCKLINE_E_SIZE, -101),
    ROW(DOCKLINE_E_VALUE, -102),
    ROW(DOCKLINE_E_STATE, -103),
    ROW(DOCKLINE_E_BUSY, -104),
    ROW(DOCKLINE_E_HANDLE, -105),
    ROW(DOCKLINE_E_BLOCKING, -106),
    ROW(DOCKLINE_E_NOT_STREAM, -107),
    ROW(DOCKLINE_E_LIMIT, -300),
    ROW(DOCKLINE_E_SYSTEM, -400),
    ROW(DOCKLINE_E_PANIC, -900),
    ROW(DOCKLINE_E_POISONED, -901),
#undef ROW
};

static void numbers_are_frozen(void)
{
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        AT("%s", numbers[i].name);
        CHECK_EQ(numbers[i].value, numbers[i].expected);
    }
    AT("numbers");
    CHECK(DOCKLINE_NO_DEADLINE == UINT64_MAX);
    /* A host with two descriptors in one loop shifts one set of bits. */
    CHECK_EQ(DOCKLINE_UPSTREAM_READ, DOCKLINE_DOWNSTREAM_READ << 4);
    CHECK_EQ(DOCKLINE_UPSTREAM_WRITE, DOCKLINE_DOWNSTREAM_WRITE << 4);
    CHECK_EQ(DOCKLINE_UPSTREAM_HUP, DOCKLINE_DOWNSTREAM_HUP << 4);
    CHECK_EQ(DOCKLINE_UPSTREAM_GONE, DOCKLINE_DOWNSTREAM_GONE << 4);
}

static void the_library_is_the_header_s(void)
{
    unsigned major, minor, patch;
    char rest;
    CHECK_EQ(dockline_abi_version(), DOCKLINE_ABI_VERSION);
    CHECK(dockline_version_string() == dockline_version_string());
    CHECK_EQ(sscanf(dockline_version_string(), "dockline %u.%u.%u%c", &major, &minor, &patch, &rest), 3);
}

static void every_status_has_a_name_and_a_text(void)
{
    int named = 0;
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        dockline_status status = (dockline_status)numbers[i].value;
        int is_status = strncmp(numbers[i].name, "DOCKLINE_E_", 11) == 0
            || strcmp(numbers[i].name, "DOCKLINE_OK") == 0;
        if (!is_status)
            continue;
        named++;
        AT("%s", numbers[i].name);
        CHECK_STR(dockline_status_name(status), numbers[i].name);
        const char *text = dockline_status_text(status);
        CHECK(strlen(text) > 3);
        CHECK(text[strlen(text) - 1] != '.');
        CHECK(strcmp(text, dockline_status_text(1)) != 0);
    }
    CHECK_EQ(named, 13);
    static const dockline_status unknown[] = {1, -1, -99, -108, -902, INT32_MAX, INT32_MIN};
    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++) {
        AT("status %d", unknown[i]);
        CHECK_STR(dockline_status_name(unknown[i]), "DOCKLINE_E_UNKNOWN");
        CHECK(strlen(dockline_status_text(unknown[i])) > 3);
    }
}

static void every_close_reason_has_a_word(void)
{
    static const char *const words[] = {
        "none", "eof", "linger", "idle", "downstream-reset", "upstream-reset", "drain", "killed",
    };
    for (int32_t reason = 0; reason < 8; reason++) {
        AT("reason %d", reason);
        CHECK_STR(dockline_close_reason_name(reason), words[reason]);
    }
    CHECK_STR(dockline_close_reason_name(8), "unknown");
    CHECK_STR(dockline_close_reason_name(-1), "unknown");
    CHECK_STR(dockline_close_reason_name(INT32_MAX), "unknown");
    CHECK_STR(dockline_close_reason_name(INT32_MIN), "unknown");
}

int main(void)
{
    numbers_are_frozen();
    the_library_is_the_header_s();
    every_status_has_a_name_and_a_text();
    every_close_reason_has_a_word();
    return check_summary("version");
}
