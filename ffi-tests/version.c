/* SPDX-License-Identifier: MIT
 * The numbers of the ABI are frozen, and everything that has a number has a name. */
#include <ctype.h>

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
    ROW(DOCKLINE_REQUEST_STREAM, 1),
    ROW(DOCKLINE_REQUEST_COMMAND, 3),
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
    ROW(DOCKLINE_SIDE_PROXY, 3),
    ROW(DOCKLINE_PHASE_NONE, 0),
    ROW(DOCKLINE_PHASE_HANDSHAKE, 1),
    ROW(DOCKLINE_PHASE_REQUEST_HEAD, 2),
    ROW(DOCKLINE_PHASE_REQUEST_BODY, 3),
    ROW(DOCKLINE_PHASE_CONNECT, 4),
    ROW(DOCKLINE_PHASE_RESPONSE_HEAD, 5),
    ROW(DOCKLINE_PHASE_RESPONSE_BODY, 6),
    ROW(DOCKLINE_PHASE_TUNNEL, 7),
    ROW(DOCKLINE_PHASE_PROXY_HEADER, 8),
    ROW(DOCKLINE_CAUSE_NONE, 0),
    ROW(DOCKLINE_CAUSE_CLOSED_EARLY, 1),
    ROW(DOCKLINE_CAUSE_RESET, 2),
    ROW(DOCKLINE_CAUSE_LOST, 3),
    ROW(DOCKLINE_CAUSE_TLS_TRUNCATED, 4),
    ROW(DOCKLINE_CAUSE_TLS_STREAM, 5),
    ROW(DOCKLINE_CAUSE_METHOD_NOT_OFFERED, 10),
    ROW(DOCKLINE_CAUSE_PROXY_HEADER_MALFORMED, 15),
    ROW(DOCKLINE_CAUSE_UNTRUSTED_PEER, 16),
    ROW(DOCKLINE_CAUSE_UNREQUESTED_SWITCH, 20),
    ROW(DOCKLINE_CAUSE_TOO_MANY_INTERIM, 21),
    ROW(DOCKLINE_CAUSE_TRUNCATED, 22),
    ROW(DOCKLINE_CAUSE_CONNECT_FAILED, 30),
    ROW(DOCKLINE_CAUSE_RESOLVE_FAILED, 31),
    ROW(DOCKLINE_CAUSE_NO_ADDRESS, 32),
    ROW(DOCKLINE_CAUSE_OWN_LISTENER, 33),
    ROW(DOCKLINE_CAUSE_OUT_OF_RESOURCES, 34),
    ROW(DOCKLINE_CAUSE_DRAINED, 40),
    ROW(DOCKLINE_CAUSE_KILLED, 41),
    ROW(DOCKLINE_CAUSE_PANICKED, 42),
    ROW(DOCKLINE_CAUSE_REQUEST_HEAD_TIMEOUT, 50),
    ROW(DOCKLINE_CAUSE_REQUEST_BODY_TIMEOUT, 51),
    ROW(DOCKLINE_CAUSE_RESPONSE_DELIVERY_TIMEOUT, 52),
    ROW(DOCKLINE_CAUSE_REQUEST_DELIVERY_TIMEOUT, 53),
    ROW(DOCKLINE_CAUSE_RESPONSE_HEAD_TIMEOUT, 54),
    ROW(DOCKLINE_CAUSE_RESPONSE_BODY_TIMEOUT, 55),
    ROW(DOCKLINE_CAUSE_STREAM_IDLE_TIMEOUT, 56),
    ROW(DOCKLINE_CAUSE_TUNNEL_IDLE_TIMEOUT, 57),
    ROW(DOCKLINE_CAUSE_RESOLVE_TIMEOUT, 58),
    ROW(DOCKLINE_CAUSE_CONNECT_TIMEOUT, 59),
    ROW(DOCKLINE_CAUSE_HANDSHAKE_TIMEOUT, 60),
    ROW(DOCKLINE_CAUSE_PROXY_HEADER_TIMEOUT, 61),
    ROW(DOCKLINE_CAUSE_TLS_ALERT, 70),
    ROW(DOCKLINE_CAUSE_TLS_MALFORMED, 71),
    ROW(DOCKLINE_CAUSE_TLS_INCOMPATIBLE, 72),
    ROW(DOCKLINE_CAUSE_TLS_MISBEHAVED, 73),
    ROW(DOCKLINE_CAUSE_TLS_NO_CERTIFICATE, 74),
    ROW(DOCKLINE_CAUSE_TLS_UNKNOWN_ISSUER, 75),
    ROW(DOCKLINE_CAUSE_TLS_EXPIRED, 76),
    ROW(DOCKLINE_CAUSE_TLS_REVOKED, 77),
    ROW(DOCKLINE_CAUSE_TLS_REVOCATION_UNKNOWN, 78),
    ROW(DOCKLINE_CAUSE_TLS_WRONG_NAME, 79),
    ROW(DOCKLINE_CAUSE_TLS_BAD_CERTIFICATE, 80),
    ROW(DOCKLINE_CAUSE_TLS_HANDSHAKE_TOO_LONG, 81),
    ROW(DOCKLINE_CAUSE_TLS_FAILED, 82),
    ROW(DOCKLINE_CAUSE_BARE_LF, 101),
    ROW(DOCKLINE_CAUSE_BARE_CR, 102),
    ROW(DOCKLINE_CAUSE_EXTRA_EMPTY_LINE, 103),
    ROW(DOCKLINE_CAUSE_REQUEST_LINE_BLANK, 104),
    ROW(DOCKLINE_CAUSE_REQUEST_LINE_SHORT, 105),
    ROW(DOCKLINE_CAUSE_METHOD_BYTE, 106),
    ROW(DOCKLINE_CAUSE_METHOD_TOO_LONG, 107),
    ROW(DOCKLINE_CAUSE_TARGET_BYTE, 108),
    ROW(DOCKLINE_CAUSE_TARGET_FORM, 109),
    ROW(DOCKLINE_CAUSE_TARGET_AUTHORITY, 110),
    ROW(DOCKLINE_CAUSE_TARGET_HOST_MISMATCH, 111),
    ROW(DOCKLINE_CAUSE_UNSUPPORTED_VERSION, 112),
    ROW(DOCKLINE_CAUSE_STATUS_CODE, 113),
    ROW(DOCKLINE_CAUSE_REASON_SPACE, 114),
    ROW(DOCKLINE_CAUSE_REASON_BYTE, 115),
    ROW(DOCKLINE_CAUSE_BLANK_BEFORE_FIELDS, 116),
    ROW(DOCKLINE_CAUSE_OBSOLETE_FOLD, 117),
    ROW(DOCKLINE_CAUSE_FIELD_NAME_BLANK, 118),
    ROW(DOCKLINE_CAUSE_FIELD_NAME_EMPTY, 119),
    ROW(DOCKLINE_CAUSE_FIELD_NAME_BYTE, 120),
    ROW(DOCKLINE_CAUSE_FIELD_COLON, 121),
    ROW(DOCKLINE_CAUSE_FIELD_VALUE_BYTE, 122),
    ROW(DOCKLINE_CAUSE_HOST_MISSING, 123),
    ROW(DOCKLINE_CAUSE_HOST_REPEATED, 124),
    ROW(DOCKLINE_CAUSE_HOST_INVALID, 125),
    ROW(DOCKLINE_CAUSE_UNSUPPORTED_EXPECTATION, 126),
    ROW(DOCKLINE_CAUSE_AMBIGUOUS_FRAMING, 127),
    ROW(DOCKLINE_CAUSE_TRANSFER_CODING_IN_HTTP10, 128),
    ROW(DOCKLINE_CAUSE_TRANSFER_CODING_REPEATED, 129),
    ROW(DOCKLINE_CAUSE_TRANSFER_CODING_INVALID, 130),
    ROW(DOCKLINE_CAUSE_UNSUPPORTED_TRANSFER_CODING, 131),
    ROW(DOCKLINE_CAUSE_CONTENT_LENGTH_REPEATED, 132),
    ROW(DOCKLINE_CAUSE_CONTENT_LENGTH_INVALID, 133),
    ROW(DOCKLINE_CAUSE_CONTENT_LENGTH_TOO_LARGE, 134),
    ROW(DOCKLINE_CAUSE_CONNECTION_OPTION, 135),
    ROW(DOCKLINE_CAUSE_CHUNK_SIZE_EMPTY, 136),
    ROW(DOCKLINE_CAUSE_CHUNK_SIZE_BYTE, 137),
    ROW(DOCKLINE_CAUSE_CHUNK_SIZE_TOO_LARGE, 138),
    ROW(DOCKLINE_CAUSE_CHUNK_EXTENSION_BYTE, 139),
    ROW(DOCKLINE_CAUSE_CHUNK_DATA_END, 140),
    ROW(DOCKLINE_CAUSE_READERS_DISAGREE, 141),
    ROW(DOCKLINE_CAUSE_REQUEST_LINE_TOO_LONG, 201),
    ROW(DOCKLINE_CAUSE_HEAD_TOO_LARGE, 202),
    ROW(DOCKLINE_CAUSE_TOO_MANY_FIELDS, 203),
    ROW(DOCKLINE_CAUSE_CHUNK_EXTENSION_TOO_LONG, 204),
    ROW(DOCKLINE_CAUSE_CHUNK_EXTENSIONS_TOO_LONG, 205),
    ROW(DOCKLINE_CAUSE_CHUNK_OVERHEAD, 206),
    ROW(DOCKLINE_CAUSE_TRAILER_TOO_LARGE, 207),
    ROW(DOCKLINE_CAUSE_TOO_MANY_TRAILER_FIELDS, 208),
    ROW(DOCKLINE_CAUSE_HELD_BODY_TOO_LONG, 209),
    ROW(DOCKLINE_LOG_ERROR, 1),
    ROW(DOCKLINE_LOG_WARN, 2),
    ROW(DOCKLINE_LOG_INFO, 3),
    ROW(DOCKLINE_CLIENT_TLS, 1),
    ROW(DOCKLINE_CLIENT_UNIX, 2),
    ROW(DOCKLINE_END_COMPLETE, 1),
    ROW(DOCKLINE_END_REPLIED, 2),
    ROW(DOCKLINE_END_BAD_REQUEST, 3),
    ROW(DOCKLINE_END_CLIENT_TIMEOUT, 4),
    ROW(DOCKLINE_END_CLIENT_ABORTED, 5),
    ROW(DOCKLINE_END_UNREACHABLE, 6),
    ROW(DOCKLINE_END_BAD_RESPONSE, 7),
    ROW(DOCKLINE_END_UPSTREAM_TIMEOUT, 8),
    ROW(DOCKLINE_END_TRUNCATED, 9),
    ROW(DOCKLINE_END_STOPPED, 10),
    ROW(DOCKLINE_EXCHANGE_REUSED, 1),
    ROW(DOCKLINE_CONN_STRICT_HOST, 0x01),
    ROW(DOCKLINE_CONN_ALLOW_CONNECT, 0x02),
    ROW(DOCKLINE_CONN_X_FORWARDED, 0x04),
    ROW(DOCKLINE_CONN_FORWARDED, 0x08),
    ROW(DOCKLINE_CONN_TRUSTED, 0x10),
    ROW(DOCKLINE_CONN_KEEP_ALIVE_HINT, 0x20),
    ROW(DOCKLINE_DOWNSTREAM_SHUT, 0x100),
    ROW(DOCKLINE_UPSTREAM_SHUT, 0x1000),
    ROW(DOCKLINE_EVENT_NONE, 0),
    ROW(DOCKLINE_EVENT_NEED_UPSTREAM, 1),
    ROW(DOCKLINE_EVENT_RELEASE_UPSTREAM, 2),
    ROW(DOCKLINE_EVENT_EXCHANGE_ENDED, 3),
    ROW(DOCKLINE_EVENT_TUNNEL, 4),
    ROW(DOCKLINE_EVENT_CLOSED, 5),
    ROW(DOCKLINE_EVENT_MAY_REUSE, 1),
    ROW(DOCKLINE_EVENT_AGAIN, 2),
    ROW(DOCKLINE_EVENT_KEEP, 4),
    ROW(DOCKLINE_EVENT_RESET, 8),
    ROW(DOCKLINE_FAILED_UNREACHABLE, 1),
    ROW(DOCKLINE_FAILED_TIMEOUT, 2),
    ROW(DOCKLINE_FAILED_OVERLOADED, 3),
    ROW(DOCKLINE_SERVICE_HTTP, 0),
    ROW(DOCKLINE_SERVICE_FORWARD, 1),
    ROW(DOCKLINE_PROXY_PROTOCOL_NONE, 0),
    ROW(DOCKLINE_PROXY_PROTOCOL_V1, 1),
    ROW(DOCKLINE_PROXY_PROTOCOL_V2, 2),
    ROW(DOCKLINE_ENGINE_RUNNING, 0),
    ROW(DOCKLINE_ENGINE_DRAINING, 1),
    ROW(DOCKLINE_ENGINE_DONE, 2),
    ROW(DOCKLINE_ROUTES_UNCHANGED, 0),
    ROW(DOCKLINE_ROUTES_READ, 1),
    ROW(DOCKLINE_ROUTES_FAILED, 2),
    ROW(DOCKLINE_ROUTES_FOUND, 0),
    ROW(DOCKLINE_ROUTES_UNKNOWN, 1),
    ROW(DOCKLINE_ROUTES_NO_TARGET, 2),
    ROW(DOCKLINE_ROUTES_NOT_LOADED, 3),
    ROW(DOCKLINE_OK, 0),
    ROW(DOCKLINE_E_NULL, -100),
    ROW(DOCKLINE_E_SIZE, -101),
    ROW(DOCKLINE_E_VALUE, -102),
    ROW(DOCKLINE_E_STATE, -103),
    ROW(DOCKLINE_E_BUSY, -104),
    ROW(DOCKLINE_E_HANDLE, -105),
    ROW(DOCKLINE_E_BLOCKING, -106),
    ROW(DOCKLINE_E_NOT_STREAM, -107),
    ROW(DOCKLINE_E_NOT_LISTENING, -108),
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
    CHECK_EQ(DOCKLINE_UPSTREAM_SHUT, DOCKLINE_DOWNSTREAM_SHUT << 4);
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
    CHECK_EQ(named, 14);
    static const dockline_status unknown[] = {1, -1, -99, -109, -902, INT32_MAX, INT32_MIN};
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

static void every_end_has_a_word(void)
{
    static const char *const words[] = {
        "unknown", "complete", "replied", "bad-request", "client-timeout", "client-aborted", "unreachable",
        "bad-response", "upstream-timeout", "truncated", "stopped", "unknown",
    };
    for (int32_t end = 0; end < 12; end++) {
        AT("end %d", end);
        CHECK_STR(dockline_exchange_end_name(end), words[end]);
    }
    CHECK_STR(dockline_exchange_end_name(INT32_MIN), "unknown");
}

static void every_phase_and_cause_has_a_word(void)
{
    int named = 0;
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        const int is_cause = strncmp(numbers[i].name, "DOCKLINE_CAUSE_", 15) == 0;
        const int is_phase = strncmp(numbers[i].name, "DOCKLINE_PHASE_", 15) == 0;
        if (!is_cause && !is_phase)
            continue;
        const int32_t number = (int32_t)numbers[i].value;
        const char *word = is_cause ? dockline_cause_name(number) : dockline_phase_name(number);
        AT("%s", numbers[i].name);
        /* The word is the name, in small letters and with hyphens. */
        CHECK_EQ(strlen(word), strlen(numbers[i].name + 15));
        for (size_t at = 0; word[at] != '\0'; at++)
            CHECK_EQ(toupper(word[at] == '-' ? '_' : word[at]), numbers[i].name[15 + at]);
        named++;
    }
    CHECK_EQ(named, 9 + 95);
    CHECK_STR(dockline_cause_name(-1), "unknown");
    CHECK_STR(dockline_cause_name(INT32_MAX), "unknown");
    CHECK_STR(dockline_phase_name(9), "unknown");
    CHECK_STR(dockline_phase_name(INT32_MIN), "unknown");
}

int main(void)
{
    numbers_are_frozen();
    the_library_is_the_header_s();
    every_status_has_a_name_and_a_text();
    every_close_reason_has_a_word();
    every_end_has_a_word();
    every_phase_and_cause_has_a_word();
    return check_summary("version");
}
